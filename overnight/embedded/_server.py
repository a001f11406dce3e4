"""What the embedded servers have in common: their life, not their work."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Self

from overnight.embedded.process import ManagedProcess, Program, finish
from overnight.errors import EmbeddedServerError


class EmbeddedServer(ABC):
    """A server of ours. As a context manager it starts at the beginning and stops at the end.

    The same object can be started again after `stop` or `kill`: on the same ports, and on its data if it keeps any.
    """

    _name: ClassVar[str]

    def __init__(self) -> None:
        self._process: ManagedProcess | None = None

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        if self._process is None:
            raise EmbeddedServerError(f"{self._name} does not run: start it first.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives. It may have been killed by anybody since it was started."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, and return when clients can work with it. Interrupted, it leaves nothing behind.

        Raises:
            EmbeddedServerError: The extra is not installed, a port is taken, its folder is of no use or in use, or
                it died; then the last lines of its log are in the text.
        """
        if self._process is not None and self.is_running:
            raise EmbeddedServerError(f"{self._name} already runs, with pid {self._process.pid}.")
        try:
            await self._start()
        except OSError as error:
            await self.stop()
            raise EmbeddedServerError(f"{self._name} could not be started: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop it in good order and give up its ports. Idempotent; being canceled does not interrupt it."""
        await finish(self._stop())

    async def kill(self) -> None:
        """End it by SIGKILL, as a crash would, with all that it started. Data and ports stay for the next `start`."""
        if self._process is not None:
            await self._process.kill()

    async def _stop(self) -> None:
        await self._end_process()
        await self._give_up_everything()

    async def _run(self, program: Program) -> ManagedProcess:
        await self._end_process()  # an earlier one that died by itself still has pipes to close
        self._process = await ManagedProcess.start(program)
        return self._process

    async def _end_process(self) -> None:
        if self._process is not None:
            await self._process.stop()
            self._process = None

    @abstractmethod
    async def _start(self) -> None: ...

    @abstractmethod
    async def _give_up_everything(self) -> None:
        """Release the ports and remove what was temporary. The process is gone already."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
