"""A process that no launcher has started says so."""

import re

import pytest
from command_line import CONFIG, run_command

from asl_det.errors import UserError
from asl_det.training.processes import TOLD, check_launcher

GIVEN = dict(RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='29500')


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in {name for names in TOLD.values() for name in names}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize('launcher, says', [
    ('pytorch', 'RANK, WORLD_SIZE, MASTER_PORT, MASTER_ADDR are not set, so no launcher has '
     'started this process: torchrun --nproc_per_node=N -m asl_det train'),
    ('slurm', 'SLURM_PROCID, SLURM_NTASKS, SLURM_NODELIST are not set.*srun'),
    ('mpi', 'OMPI_COMM_WORLD_RANK.* are not set.*mpirun')])
@pytest.mark.parametrize('tool', ['train', 'test'])
def test_a_launcher_that_has_not_started_the_process_is_one_line(tmp_path, monkeypatch, tool,
                                                                launcher, says):
    said = run_command(tool, CONFIG, *(['no.pth'] * (tool == 'test')), '--work-dir',
                    tmp_path / 'work', '--launcher', launcher)
    assert said.startswith(f'error: --launcher {launcher}: ') and re.search(says, said)
    assert '\n' not in said and not (tmp_path / 'work').exists()


@pytest.mark.parametrize('name, value, says', [
    ('RANK', 'first', 'RANK=first: expected a number'), ('MASTER_PORT', '', 'MASTER_PORT=: expect'),
    ('WORLD_SIZE', '-2', 'WORLD_SIZE=-2'), ('RANK', '2', 'RANK=2 and WORLD_SIZE=2: .* from 0 to 1'),
    ('MASTER_ADDR', None, 'MASTER_ADDR is not set')])
def test_what_a_launcher_tells_is_looked_at(monkeypatch, name, value, says):
    for key, given in GIVEN.items():
        monkeypatch.setenv(key, given)
    check_launcher('pytorch')
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=says):
        check_launcher('pytorch')


def test_slurm_needs_the_name_of_the_first_machine_and_a_gpu(monkeypatch):
    for name in TOLD['slurm']:
        monkeypatch.setenv(name, '0' if name != 'SLURM_NTASKS' else '1')
    monkeypatch.setattr('shutil.which', lambda name: None)
    with pytest.raises(UserError, match='there is no scontrol'):
        check_launcher('slurm')
    monkeypatch.setenv('MASTER_ADDR', 'node1')
    monkeypatch.setattr('asl_det.training.processes.get_device', lambda: 'cpu')
    with pytest.raises(UserError, match='slurm needs a GPU, and torch finds none: torchrun'):
        check_launcher('slurm')
    monkeypatch.setattr('asl_det.training.processes.get_device', lambda: 'cuda')
    check_launcher('slurm')
    with pytest.raises(UserError, match="launcher='k8s': expected none, pytorch, slurm, mpi"):
        check_launcher('k8s')
