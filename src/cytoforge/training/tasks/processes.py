"""Processes that train together: started here, or found where torchrun or Slurm's srun have started them."""

import contextlib
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from cytoforge.errors import Interrupted, UserError
from cytoforge.inference.load import choose_device, choose_precision
from cytoforge.processors import usable_threads
from cytoforge.progress import say
from cytoforge.training.specification import Compute

PATIENCE = timedelta(hours=12)  # for which the others wait while the first validates or judges
GRACE = 10.0  # seconds that all have to end once one has ended
GOES_ON = "the same command goes on from the last state that was saved"
Precision = Literal["bf16-mixed", "32-true"]
Variables = Mapping[str, str]
_asking = threading.Lock()
Child = tuple[BaseProcess, Connection]
"""a process, and what tells of its failure"""


@contextlib.contextmanager
def together(compute: Compute, work: Callable[[], object]) -> Iterator[Fabric]:
    """Give the Fabric of this process, which knows its device, its precision and its place among the others.

    Unless torchrun or srun have started all of them, the others are started here, and do `work`. If one ends early, all
    do. The precision follows from what the processor can do, never from a timing, so that a resumed run repeats.
    Raises UserError as `choose_device`, as `found`, where GPUs are lacking and where another process has failed.
    """
    device = choose_device(compute.device)
    if device == "cpu":
        torch.set_num_threads(compute.threads or usable_threads(compute.devices))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # config.json tells the precision
    precision: Precision = "bf16-mixed" if choose_precision(compute.precision, device) == "bfloat16" else "32-true"
    variables = found(compute, os.environ)
    if compute.processes == 1:
        alone = Fabric(accelerator=device, devices=1, precision=precision, plugins=[LightningEnvironment()])
        alone.launch()
        yield alone
        return
    with contextlib.ExitStack() as stack:
        if variables is None:
            check_devices(device, compute.devices)
            variables = stack.enter_context(_started(compute.devices, work))
        stack.enter_context(_environment(variables))
        yield stack.enter_context(_group(device, precision, compute))


def found(compute: Compute, variables: Variables) -> Variables | None:
    """Return torchrun's variables for this process, also where srun has started it; None where neither has.

    Raises UserError where they have started other processes than `compute` wants, or where nobody has on other nodes.
    """
    wanted = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    own = {name: variables[name] for name in wanted if name in variables}
    if compute.processes > 1 and len(own) < len(wanted) and int(variables.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        hosts = variables.get("SLURM_STEP_NODELIST", variables.get("SLURM_NODELIST", "127.0.0.1"))
        port = str(15000 + int(variables.get("SLURM_JOB_ID", "0")) % 10000)
        own = {
            "RANK": variables["SLURM_PROCID"],
            "LOCAL_RANK": variables["SLURM_LOCALID"],
            "WORLD_SIZE": variables["SLURM_STEP_NUM_TASKS"],
            "MASTER_ADDR": variables.get("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(hosts)),
            "MASTER_PORT": variables.get("MASTER_PORT", port),
        }
    if len(own) == len(wanted):
        if int(own["WORLD_SIZE"]) != compute.processes or int(own["LOCAL_RANK"]) >= compute.devices:
            raise UserError(
                f"--devices {compute.devices} --nodes {compute.nodes} are {compute.processes} processes, and "
                f"{own['WORLD_SIZE']} were started; start one for each device"
            )
        return own
    if compute.nodes > 1:
        raise UserError(f"--nodes {compute.nodes}: start a process for each device by torchrun or srun (docs/scale.md)")
    return None


def check_devices(device: str, count: int) -> None:
    """Raise UserError where this computer has fewer GPUs than `count`; a CPU serves any number of processes."""
    have = torch.cuda.device_count() if device == "cuda" else 1
    if device != "cpu" and count > have:
        raise UserError(f"--devices {count}: there are fewer GPUs ({device}) here; give --devices {have}")


@contextlib.contextmanager
def _group(device: str, precision: Precision, compute: Compute) -> Iterator[Fabric]:
    """Give a Fabric whose process belongs to the group of all, which they leave together."""
    places = [torch.device(device)] * compute.devices
    if device == "cuda" and torch.cuda.device_count() > 1:  # else the scheduler shows each process a GPU of its own
        check_devices(device, compute.devices)
        places = [torch.device(device, place) for place in range(compute.devices)]
    environment = TorchElasticEnvironment()
    strategy = DDPStrategy(parallel_devices=places, cluster_environment=environment, timeout=PATIENCE)
    fabric = Fabric(accelerator=device, devices=1, num_nodes=compute.nodes, precision=precision, strategy=strategy)
    try:
        fabric.launch()
        try:
            yield fabric
        except Interrupted:  # all have agreed on it
            fabric.barrier()
            raise
        fabric.barrier()
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise Interrupted(f"another of the {compute.processes} processes has ended; {GOES_ON}") from error
    finally:  # a process that ends while its threads still listen to the others is aborted
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    """Tell whether an error says that another process is gone."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error) or "Connection" in str(error)


@contextlib.contextmanager
def _environment(variables: Variables) -> Iterator[None]:
    """Set variables of the environment for as long as the block runs."""
    former = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _started(count: int, work: Callable[[], object]) -> Iterator[Variables]:
    """Start all processes but the first, which this is, and give its variables; in the end none of them is left."""
    context = multiprocessing.get_context("spawn")
    port = LightningEnvironment().main_port  # one that is free
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children: list[Child] = []
    over = threading.Event()
    try:
        for rank in range(1, count):
            receiver, sender = context.Pipe(duplex=False)
            variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = context.Process(target=_take_part, args=(work, variables, sender), daemon=True)
            process.start()
            sender.close()
            children.append((process, receiver))
        threading.Thread(target=_watch, args=(children, over), daemon=True).start()
        yield {**shared, "RANK": "0", "LOCAL_RANK": "0"}
        _leave(children)
    except Interrupted as error:
        _leave(children)
        if failure := _failure(children):
            raise UserError(failure) from error
        raise
    finally:
        over.set()
        for child, _ in children:
            child.kill()
            with _asking:
                child.join()


def _take_part(work: Callable[[], object], variables: Variables, sender: Connection) -> None:
    """Do `work` as a further process: silently, and not for longer than the one that has started it lives."""
    os.environ.update(variables)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            work()
    except Interrupted:
        return
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        fault = f"a fault of cytoforge itself in another process ({type(error).__name__}: {error}); {GOES_ON}"
        sender.send(str(error) if isinstance(error, UserError) else fault)
        sys.exit(1)


def _leave(children: Sequence[Child]) -> None:
    """Wait a while for processes to end."""
    for child, _ in children:
        if wait([child.sentinel], GRACE):  # it is about to end: its files are closed
            with _asking:
                child.join()


def _exit_code(child: BaseProcess) -> int | None:
    """Return the exit code of a process; of two threads that ask at once, one would learn of none."""
    with _asking:
        return child.exitcode


def _watch(children: Sequence[Child], over: threading.Event) -> None:
    """End this process a while after another has failed, unless it ends by itself: a GPU would wait for that one."""
    left = [child for child, _ in children]
    while left and not any(_exit_code(child) for child in left):
        wait([child.sentinel for child in left])
        left = [child for child in left if _exit_code(child) != 0]
    if left and not over.wait(GRACE):
        say([f"cytoforge: {_failure(children)}"])
        os._exit(2)


def _failure(children: Sequence[Child]) -> str | None:
    """Return why processes have failed, in one sentence; None where none has."""
    codes = [(number, _exit_code(child) or 0, told) for number, (child, told) in enumerate(children, 2)]
    failed = [one for one in codes if one[1]]
    for number, code, _ in failed:
        if code < 0:
            return f"process {number} of {len(children) + 1} was ended by signal {-code}; {GOES_ON}"
    for _, _, told in failed:
        with contextlib.suppress(EOFError):
            if told.poll():
                return str(told.recv())
    return f"process {failed[0][0]} of {len(children) + 1} has ended; {GOES_ON}" if failed else None
