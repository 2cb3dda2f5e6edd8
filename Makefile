# make quickstart | multilabel | test | test-onedl | test-oldest | test-faults | lint | clean
PYTHON ?= python3
STACK ?= openmmlab
VENV := .venv$(if $(filter onedl,$(STACK)),-onedl)
BIN := $(VENV)/bin
RUN := work_dirs/quickstart
CONFIG := configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py
ML_RUN := work_dirs/multilabel
ML_CONFIG := configs/multilabel/resnet18-w16_asl_digits.py

.PHONY: quickstart multilabel coco18 test test-onedl test-oldest test-faults lint clean

quickstart: $(VENV)/installed
	$(BIN)/asl-det data digits
	$(BIN)/asl-det train $(CONFIG) --work-dir $(RUN) --resume
	$(BIN)/asl-det test $(CONFIG) $$(cat $(RUN)/last_checkpoint) --work-dir $(RUN)/test \
	    --out $(RUN)/results.json --show $(RUN)/predictions
	@echo
	@echo "A RetinaNet was trained with the asymmetric loss and evaluated. Where to look:"
	@echo "  $(RUN)/results.json   box AP and the versions it was measured with"
	@echo "  $(RUN)/curves.png     losses, AP and learning rate along the training"
	@echo "  $(RUN)/predictions/   every validation image: truth left, predictions right"
	@echo "  $(CONFIG)"
	@echo "Run it on a picture of your own:"
	@echo "  $(BIN)/asl-det infer $$(cat $(RUN)/last_checkpoint) IMAGE"

multilabel: $(VENV)/installed
	$(BIN)/asl-det data digits --preset multilabel
	$(BIN)/asl-det train $(ML_CONFIG) --work-dir $(ML_RUN) --resume
	$(BIN)/asl-det test $(ML_CONFIG) $$(cat $(ML_RUN)/last_checkpoint) \
	    --work-dir $(ML_RUN)/test --out $(ML_RUN)/results.json --show $(ML_RUN)/predictions
	@echo
	@echo "A multi-label classifier was trained with the asymmetric loss. Where to look:"
	@echo "  $(ML_RUN)/results.json   metrics; results.classes.csv: of every class"
	@echo "  $(ML_RUN)/curves.png     loss, mAP and learning rate along the training"
	@echo "  $(ML_RUN)/predictions/   validation images with what was predicted"
	@echo "  $(ML_CONFIG)"
	@echo "Run it on a picture of your own:"
	@echo "  $(BIN)/asl-det infer $$(cat $(ML_RUN)/last_checkpoint) IMAGE"

# The table of docs/coco18.md: DATA_ROOT=path/to/coco18/ make coco18
DATA_ROOT ?= data/coco18/
LOSS := model.head.loss
LR := optim_wrapper.optimizer.lr
COCO18 := configs/multilabel/efficientnet-lite0_asl_coco18
coco18: $(VENV)/installed
	$(BIN)/asl-det data features $(COCO18).py data/coco18_features --data-root $(DATA_ROOT)
	$(BIN)/asl-det sweep $(COCO18)_cached.py --work-dir work_dirs/coco18 --seeds 0 1 2 \
	    --variant BCE $(LOSS).gamma_neg=0 $(LOSS).clip=0 $(LR)=6e-4 \
	    --variant focal $(LOSS).gamma_neg=1 $(LOSS).gamma_pos=1 $(LOSS).clip=0 $(LR)=6e-4 \
	    --variant ASL $(LOSS).gamma_neg=2 $(LOSS).clip=0.05 $(LR)=3e-4 \
	    --metrics '.*mAP' '.*' --cfg-options data_root=$(DATA_ROOT) train_cfg.val_interval=3 \
	    default_hooks.checkpoint.save_best=None

# A process a core; make test ARGS='-n 0 tests/losses' runs a part in one.
test: $(VENV)/installed
	$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist worksteal $(ARGS)

test-onedl:
	$(MAKE) test STACK=onedl

# The oldest versions that pyproject.toml allows: PYTHON=python3.10 make test-oldest. Without the
# networks of every family of timm, which are those of the pinned one.
OLDEST := .venv-oldest
test-oldest: ARGS ?= tests/losses tests/detection tests/multilabel tests/config tests/files \
    --ignore tests/multilabel/test_timm_families.py
test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m pytest -q -n logical --maxprocesses 4 --dist worksteal $(ARGS)

# Trainings killed at every write, then at 30 random moments in each of four cases: about half an
# hour.
FAULTS := work_dirs/faults
KILL := tools/kill_campaign.py configs/multilabel/resnet18-w16_asl-adaptive_digits.py \
    --data-root $(FAULTS)/digits --kills 30 --epochs 40
SHORT := --cfg-options train_dataloader.batch_size=8 train_cfg.val_interval=2
test-faults: $(VENV)/installed
	$(BIN)/python -m pytest -q -m exhaustive tests/training/hooks/test_safe_checkpoint.py
	$(BIN)/asl-det data digits $(FAULTS)/digits --preset multilabel --num-train 48 --num-val 16
	$(BIN)/python $(KILL) --work-dir $(FAULTS)/seed $(SHORT)
	$(BIN)/python $(KILL) --work-dir $(FAULTS)/no_seed --no-seed $(SHORT)
	$(BIN)/python $(KILL) --work-dir $(FAULTS)/accumulation $(SHORT) optim_wrapper.accumulative_counts=4
	$(BIN)/python $(KILL) --work-dir $(FAULTS)/go_back --go-back $(SHORT)

lint: $(VENV)/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

# Environments and builds; work_dirs/ holds trained models and stays.
clean:
	rm -rf .venv .venv-onedl $(OLDEST) *.egg-info build

# Made anew where the pinned versions or the dependencies change.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(STACK),multilabel,test]'
	@touch $@

$(OLDEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt uv pytest pytest-xdist
	$(OLDEST)/bin/uv pip install -q --python $(OLDEST)/bin/python --resolution lowest-direct -e '.[openmmlab,multilabel]'
	@touch $@
