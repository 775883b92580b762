"""The Faust host: keyed processors on Kafka, with a table of states; every output at least once.

A record's way:

1. The state of its key comes from the table, with the offset it reflects. A record at or below that was
   folded before: nothing is done.
2. The processor takes it. Its outputs are sent, and acknowledged by the broker.
3. The state goes into the table's changelog with the record's offset, and is acknowledged; then into the
   table. Only then the record counts as taken.
4. The position behind it is committed. What Faust itself passes over is read from the log first.

A kill between 2 and 3 leads to the same outputs once more, under the same ids. An exception must not
leave an agent, for Faust would take the record as done: the agent stops where it is, nothing is committed
any more, and `run_faust` raises. The role's process is to end then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time as clock
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from eventlog.contract import Stream
from eventlog.errors import LogError
from eventlog.kafka.client import ANSWER_S, asked, consumer, partition_counts, settings
from eventlog.kafka.store import KafkaLog
from eventlog.roles import Beat, Beats, Stop
from processors.hosts.outputs import placed, take
from processors.keyed import KeyedProcessor
from schemas import Record, digest

BEAT_S = 0.2
WATCH_S = 5.0
STUCK_S = 60.0
"""A partition that has records beyond its position and does not move for so long has silently stopped."""
SESSION_S = 6.0
"""After so long without a sign a process that was killed is no member of the group any more."""
LEAVE_S = 30.0
PAGE = 500


class FaustStopped(LogError):
    """Faust has stopped working without saying so."""


def run_faust(
    url: str,
    processor: KeyedProcessor | Sequence[KeyedProcessor],
    *,
    name: str,
    beats: Beats,
    stop: Stop,
) -> None:
    """Run one processor, or several of different inputs, as the Faust app `name` until `stop`.

    Another version of a processor is another app, which begins at the start of its inputs. Raises
    whatever goes wrong; end the process then.
    """
    processors = processor if isinstance(processor, Sequence) else (processor,)
    with KafkaLog(url, read_only=True) as log, TemporaryDirectory(prefix="tape-faust-") as folder:
        host = _Host(log, processors, name, folder)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(host.run(beats, stop))
        finally:
            asyncio.set_event_loop(None)


class _Host:
    """The app with its agents, and what they have come to."""

    def __init__(self, log: KafkaLog, processors: Sequence[KeyedProcessor], name: str, folder: str) -> None:
        self._log = log
        versions = digest(repr(sorted((p.name, p.version) for p in processors)).encode())[:8]
        self._id = f"{log.name}.faust.{name}.{versions}"
        self.is_leaving = False
        self._failure: Exception | None = None
        self._taken = 0
        self._positions: dict[Stream, int] = {}
        self._topics = {log.topic(p.inputs[0]): p.inputs[0] for p in processors}
        self._changelogs = {p.name: f"{self._id}-{p.name}-changelog" for p in processors}
        _make_changelogs(log, {self._changelogs[p.name]: log.partitions(p.inputs[0]) for p in processors})
        self._app = _app(self._id, log.address, folder, self)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        for one in processors:
            self._add(one)

    def _add(self, processor: KeyedProcessor) -> None:
        """An agent that gives a processor its records, one at a time."""
        topic, app = processor.inputs[0], self._app
        channel = app.topic(self._log.topic(topic), key_type=bytes, value_type=bytes, internal=False)
        channel.key_serializer = channel.value_serializer = "raw"
        table = app.Table(processor.name, partitions=self._log.partitions(topic), default=None)

        async def agent(stream: Any) -> None:
            async for event in stream.events():
                try:
                    if not self.is_leaving:
                        await self._take(processor, table, event.message)
                except Exception as problem:
                    self._fail(problem)
                    raise
                except BaseException:
                    self._fail(FaustStopped(f"{self._id}: Faust broke off a record"))
                    raise

        app.agent(channel, name=processor.name, concurrency=1)(agent)

    def _fail(self, problem: Exception) -> None:
        """From here on nothing is committed: Faust takes a record for done that an exception has ended."""
        if not self.is_leaving:
            self._failure, self.is_leaving = problem, True

    async def _take(self, processor: KeyedProcessor, table: Any, message: Any) -> None:
        """Take a record, and before it whatever Faust has passed over: after a rebalance it drops some."""
        stream = (self._topics[message.topic], message.partition)
        position = self._position(stream)
        if message.offset < position:
            return
        while position < message.offset and (
            passed := self._log.read(*stream, gte=position, lt=message.offset, limit=PAGE)
        ):
            for record in passed:
                await self._fold(processor, table, record)
            position = passed[-1].offset + 1
        key, value = message.key or b"", message.value or b""
        await self._fold(processor, table, Record(*stream, message.offset, key, value))

    def _position(self, stream: Stream) -> int:
        """The next offset to take; of a partition that is new here, where its group stands."""
        if stream not in self._positions:
            self._positions[stream] = _committed(self._log, self._id, stream)
        return self._positions[stream]

    async def _fold(self, processor: KeyedProcessor, table: Any, record: Record) -> None:
        key = processor.key(record)
        kept = table.get(key)
        if kept is None or record.offset > kept[0]:
            if kept is not None:
                processor.load(key, kept[1])
            for event in take(processor, record):
                new = placed(event, record, self._log.partitions)
                await self._send(self._log.topic(new.topic), new.partition, new.key, new.value)
            await self._keep(table, processor, key, record)
        self._taken += 1
        self._positions[record.topic, record.partition] = record.offset + 1

    def committable(self, partitions: Iterable[Any]) -> dict[Any, int]:
        """How far these partitions have been taken: Faust's own count has gaps."""
        at = {p: self._positions.get((self._topics.get(p.topic, ""), p.partition)) for p in partitions}
        return {p: offset for p, offset in at.items() if offset is not None}

    async def _on_revoked(self, app: Any, revoked: Iterable[Any], **_: Any) -> None:
        """Another process may take these partitions on from here."""
        for place in revoked:
            self._positions.pop((self._topics.get(place.topic, ""), place.partition), None)

    async def _keep(self, table: Any, processor: KeyedProcessor, key: str, record: Record) -> None:
        """Write the state into the changelog, and then into the table.

        Faust's own way of writing a table sends the change at some later time: a kill in between lost states
        whose record was committed.
        """
        state = [record.offset, processor.save(key)]
        changelog = self._changelogs[processor.name]
        await self._send(changelog, record.partition, json.dumps(key).encode(), json.dumps(state).encode())
        table.data[key] = state

    async def _send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Send, and wait for the broker's acknowledgement."""
        await self._app.producer.send_and_wait(topic, key, value, partition, None, None)

    async def run(self, beats: Beats, stop: Stop) -> None:
        """Start the app, watch it, and leave it when asked to, or when something has failed."""
        with ThreadPoolExecutor(1) as pool:
            watch = _Watch(self._log.url)
            starting = asyncio.ensure_future(self._app.start())
            try:
                await self._work(starting, watch, pool, beats, stop)
            finally:
                self.is_leaving = True
                with suppress(Exception):
                    await asyncio.wait_for(self._app.stop(), LEAVE_S)
                starting.cancel()
                await asyncio.get_running_loop().run_in_executor(pool, watch.close)
        if self._failure is not None:
            raise self._failure

    async def _work(
        self, starting: asyncio.Future[Any], watch: _Watch, pool: ThreadPoolExecutor, beats: Beats, stop: Stop
    ) -> None:
        loop, looking, looked = asyncio.get_running_loop(), None, clock.monotonic()
        while not stop() and self._failure is None:
            await asyncio.sleep(BEAT_S)
            beats(Beat(self._taken, self._assigned()))
            if starting.done() and (problem := starting.exception()):
                raise problem
            if self._app.crashed or self._app.should_stop:
                raise self._app.crash_reason or FaustStopped(f"{self._id}: Faust has ended by itself")
            if looking is not None and looking.done():
                looking.result()
                looking = None
            if looking is None and clock.monotonic() - looked > WATCH_S:
                looked = clock.monotonic()
                looking = loop.run_in_executor(pool, watch.look, self._assigned())

    def _assigned(self) -> dict[Stream, int]:
        """The positions of the input partitions that this process has now; none until Faust runs."""
        from faust.exceptions import ConsumerNotStarted

        try:
            places = self._app.consumer.assignment()
        except ConsumerNotStarted:
            return {}
        assigned = {(self._topics[p.topic], p.partition) for p in places if p.topic in self._topics}
        return {stream: self._position(stream) for stream in sorted(assigned)}


class _Watch:
    """Looks at the broker's side whether partitions that have more to read are moving. For one thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._log: KafkaLog | None = None
        self._moved: dict[Stream, tuple[int, float]] = {}

    def look(self, positions: Mapping[Stream, int]) -> None:
        """Raises `FaustStopped` for a partition that has records and stands still for too long."""
        self._log = self._log or KafkaLog(self._url, read_only=True)
        now = clock.monotonic()
        for stream, position in positions.items():
            before, since = self._moved.get(stream, (-1, now))
            if position != before or not self._log.wait({stream: position}, 0):
                self._moved[stream] = (position, now)
            elif now - since > STUCK_S:
                raise FaustStopped(
                    f"{self._url}: nothing of {stream[0]}/{stream[1]} was taken for {now - since:.0f} s "
                    f"although it has records from {position} on; the role is to be started again"
                )
        self._moved = {stream: self._moved[stream] for stream in positions}

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


def _committed(log: KafkaLog, group: str, stream: Stream) -> int:
    """Where a group stands in a partition: at its first record if nowhere."""
    reader = consumer(log.address, group)
    try:
        place = TopicPartition(log.topic(stream[0]), stream[1])
        (found,) = asked(log.url, lambda: reader.committed([place], timeout=ANSWER_S))
    finally:
        reader.close()
    return found.offset if found.offset >= 0 else log.bounds(*stream)[0]


def _make_changelogs(log: KafkaLog, wanted: Mapping[str, int]) -> None:
    """Make the tables' topics; those that are there stay."""
    admin = AdminClient(settings(log.address))
    there = partition_counts(admin, log.url)
    config = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}
    new = [NewTopic(topic, count, config=config) for topic, count in wanted.items() if topic not in there]
    for topic, made in admin.create_topics(new).items() if new else ():
        try:
            made.result()
        except KafkaException as problem:
            if problem.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise LogError(f"{log.url}: {topic} could not be made: {problem.args[0].str()}") from problem
    until = clock.monotonic() + ANSWER_S
    while not wanted.keys() <= partition_counts(admin, log.url).keys():
        if clock.monotonic() > until:
            raise LogError(f"{log.url}: the broker does not show the topics of the tables; start again")
        clock.sleep(0.05)


def _app(id: str, address: str, folder: str, host: _Host) -> Any:
    """A Faust app that reads what is committed, makes no topics, serves nothing, elects no leader."""
    import faust
    from faust.transport.drivers import aiokafka as driver

    class ReadCommitted(driver.AIOKafkaConsumerThread):
        def _create_worker_consumer(self, transport: Any) -> Any:
            made = super()._create_worker_consumer(transport)
            made._isolation_level = "read_committed"
            return made

    class ReadingConsumer(driver.Consumer):
        def _new_consumer_thread(self) -> Any:
            return ReadCommitted(self, loop=self.loop, beacon=self.beacon)

        async def _commit(self, offsets: Any) -> bool:
            taken = {} if host.is_leaving else host.committable(offsets)
            return bool(taken) and await super()._commit(taken)

    class Transport(driver.Transport):
        Consumer = ReadingConsumer

    logging.getLogger("faust").setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    app = faust.App(
        id,
        broker=f"kafka://{address}",
        store="memory://",
        web_enabled=False,
        stream_wait_empty=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=1.0,
        producer_acks=-1,
        datadir=folder,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    return app
