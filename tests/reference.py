"""The asymmetric loss and its gradient in float64 numpy, in closed form.

Written from the paper's equation, independently of the package.
"""

import numpy as np


def sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))),
                    np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def log_sigmoid(x):
    return -(np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x))))


def asymmetric_loss(x, y, gamma_pos, gamma_neg, clip, alpha=None, constant_weight=False):
    """Loss and derivative by the logit, entry by entry, for targets in [0, 1]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    p, q = sigmoid(x), sigmoid(-x)

    weight = np.exp(gamma_pos * log_sigmoid(-x))
    positive = -weight * log_sigmoid(x)
    d_positive = -weight * q
    if not constant_weight:
        d_positive += weight * gamma_pos * p * log_sigmoid(x)

    if clip == 0:
        above, p_m, not_p_m = np.ones_like(p, bool), p, q
        log_not_p_m, log_p_m = log_sigmoid(-x), log_sigmoid(x)
    else:
        threshold = np.log(clip) - np.log1p(-clip)
        above = x > threshold
        distance = np.where(above, x - threshold, 1.0)
        p_m = np.where(above, p * (1 - clip) * -np.expm1(-distance), 0.5)
        not_p_m = q + clip
        log_not_p_m = np.where(p_m < 0.5, np.log1p(-p_m), np.log(not_p_m))
        log_p_m = np.log(p_m)
    weight = np.exp(gamma_neg * log_p_m)
    negative = -weight * log_not_p_m
    d_negative = weight / not_p_m * p * q
    if not constant_weight:
        d_negative += -gamma_neg * weight / p_m * log_not_p_m * p * q
    negative, d_negative = np.where(above, negative, 0), np.where(above, d_negative, 0)

    a, b = (1, 1) if alpha is None else (alpha, 1 - alpha)
    return (a * y * positive + b * (1 - y) * negative,
            a * y * d_positive + b * (1 - y) * d_negative)
