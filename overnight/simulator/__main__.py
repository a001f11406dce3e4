"""`python -m overnight.simulator`: the simulator from the command line."""

import argparse
import math
import sys
from pathlib import Path

from overnight.simulator import SimulatorConfig, Stages, read_faults, run


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="overnight simulate", description="OpenAI's and Anthropic's batch APIs, made up."
    )
    made.add_argument("--host", default="127.0.0.1", help="where to listen")
    made.add_argument("--port", type=_port, default=0, help="0 finds a free port; the ready line names it")
    made.add_argument("--allow-remote", action="store_true", help="accept a host that is not loopback")
    made.add_argument("--state-dir", type=Path, help="keep the state here, across restarts")
    made.add_argument("--seed", type=int, default=0, help="of everything that is left to chance")
    made.add_argument("--responder", help='who answers, as "module:attribute"')
    made.add_argument("--faults", type=Path, help="a JSON file with a list of faults")
    made.add_argument("--speed", type=_speed, default=1.0, help="run every stage this many times as fast")
    for name in ("validating", "in_progress", "finalizing", "canceling", "window"):
        made.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=getattr(Stages(), name), help="seconds of this stage"
        )
    return made


def _port(text: str) -> int:
    if (port := int(text)) not in range(65_536):
        raise argparse.ArgumentTypeError(f"{port} is no port; there are 0 to 65535")
    return port


def _speed(text: str) -> float:
    if not 0 < (speed := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no speed; 60 makes an hour a minute")
    return speed


def config_from(options: argparse.Namespace) -> SimulatorConfig:
    stages = Stages(
        validating=options.validating,
        in_progress=options.in_progress,
        finalizing=options.finalizing,
        canceling=options.canceling,
        window=options.window,
    )
    return SimulatorConfig(
        state_dir=options.state_dir,
        seed=options.seed,
        stages=stages.at_speed(options.speed),
        responder=options.responder,
        faults=read_faults(options.faults.read_bytes()) if options.faults else (),
    )


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        run(config_from(options), options.host, options.port, allow_remote=options.allow_remote)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"The simulator cannot start: {error}", file=sys.stderr)  # noqa: T201  (this is a command)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
