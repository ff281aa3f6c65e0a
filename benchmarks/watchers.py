"""Browsers that only listen: Streamlit's own protocol without drawing anything.

Ten Chromiums that draw twenty curves every two seconds need more than two cores by themselves, and would measure
each other. To the server these are the same: they connect, ask for the page, take every message, remember those that a
browser would remember, and ask for each fragment again when its time has come.
"""

from __future__ import annotations

import asyncio
import threading

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect


class Watchers:
    """Connections to one page, kept up in a thread of their own.

    Parameters
    ----------
    address : host and port of the server
    query : of the page's URL, without the question mark
    count : how many
    """

    def __init__(self, address: str, query: str, count: int) -> None:
        self.finished = [0] * count
        """Script and fragment runs that each has seen the end of."""
        self.bytes = [0] * count
        """What each has received."""
        self._address, self._query = address, query
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(count,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect; raises what ended a connection before."""
        self._loop.call_soon_threadsafe(self._all.cancel)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self, count: int) -> None:
        self._failure: BaseException | None = None

        async def everyone() -> None:
            self._all = asyncio.gather(*(self._watch(number) for number in range(count)))
            try:
                await self._all
            except asyncio.CancelledError:
                pass
            except Exception as error:  # told to whoever calls stop
                self._failure = error

        self._loop.run_until_complete(everyone())
        left = asyncio.all_tasks(self._loop)  # of the connections: their pings
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.close()

    async def _watch(self, number: int) -> None:
        url = f"ws://{self._address}/_stcore/stream"
        remembered: set[str] = set()
        timers: dict[str, asyncio.Task[None]] = {}
        async with connect(url, subprotocols=["streamlit"], max_size=None) as socket:  # type: ignore[list-item]
            await self._ask(socket, remembered)
            try:
                async for data in socket:
                    self.bytes[number] += len(data)
                    message = ForwardMsg.FromString(data)
                    if message.metadata.cacheable:
                        remembered.add(message.hash)
                    kind = message.WhichOneof("type")
                    if kind == "auto_rerun":
                        again = message.auto_rerun
                        if again.fragment_id not in timers:
                            timers[again.fragment_id] = asyncio.create_task(
                                self._repeat(socket, again.fragment_id, again.interval, remembered)
                            )
                    elif kind == "stop_auto_rerun":
                        for fragment in message.stop_auto_rerun.fragment_ids:
                            if fragment in timers:
                                timers.pop(fragment).cancel()
                    elif kind == "script_finished":
                        self.finished[number] += 1
            finally:
                for timer in timers.values():
                    timer.cancel()

    async def _repeat(self, socket: ClientConnection, fragment: str, seconds: float, remembered: set[str]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._ask(socket, remembered, fragment)

    async def _ask(self, socket: ClientConnection, remembered: set[str], fragment: str = "") -> None:
        state = ClientState(query_string=self._query, fragment_id=fragment, is_auto_rerun=bool(fragment))
        state.cached_message_hashes.extend(remembered)
        await socket.send(BackMsg(rerun_script=state).SerializeToString())
