"""The archive writer: whatever is written, rolled back and cut anywhere, what comes out is a whole archive."""

from __future__ import annotations

import asyncio
import io
import random
import zipfile
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from downloader.config import part_plan
from downloader.errors import StorageError
from downloader.work.archive import ArchiveWriter, EntryHead, Method
from downloader.work.budget import ByteBudget
from downloader.work.deflate import Level, deflate, worth_compressing
from downloader.work.deflating import BLOCK_BYTES, Deflating
from downloader.work.partbody import PartBody
from downloader.work.storage import ObjectInfo, PartReceipt
from downloader.work.upload import PARTS_MAX
from downloader.work.zipformat import EntryTail, central_header, dos_time, end_records, fill_in, local_header
from tests.ledger import MemoryLedger
from tests.memorystore import MemoryStore
from tests.readers import READERS, Found, check_7z, check_unzip, read_java_file, read_java_stream, read_python
from tests.ziplint import lint, lint_by

MIB = 1024 * 1024
GIB = 1024 * MIB
KEY = "jobs/archive.zip"
NOON = datetime(2026, 11, 25, 12, 34, 57, tzinfo=UTC)


@dataclass(frozen=True)
class File:
    """One file of an example; `cuts` says where its bytes are split into buffers."""

    name: str
    data: bytes
    method: Method = Method.STORED
    says_size: bool = True
    cuts: tuple[int, ...] = ()
    mtime: datetime | None = NOON
    rolled_back: bool = False
    at_once: bool = False

    def buffers(self) -> list[bytes]:
        packed = self.data
        if self.method is Method.DEFLATED:
            packed = deflate(self.data, "fast")
        marks = sorted({0, *(cut % (len(packed) + 1) for cut in self.cuts), len(packed)})
        return [packed[start:end] for start, end in pairwise(marks)]


@dataclass
class Made:
    """An archive and all that may be asked about how it came to be."""

    data: bytes
    store: MemoryStore
    budget: ByteBudget
    ledger: MemoryLedger = field(default_factory=MemoryLedger)


def writer(
    store: MemoryStore, part_bytes: int, budget: ByteBudget, ledger: MemoryLedger | None = None
) -> ArchiveWriter:
    ledger = ledger or MemoryLedger()
    return ArchiveWriter(store, KEY, part_bytes=part_bytes, parts_in_flight=4, budget=budget, ledger=ledger)


async def add(archive: ArchiveWriter, file: File, index: int) -> None:
    size = len(file.data) if file.says_size else None
    head = EntryHead(index, file.name, file.mtime, file.method, size)
    if file.at_once and not file.rolled_back and size is not None:
        position, tail = archive.position, archive.put(head, zlib.crc32(file.data), b"".join(file.buffers()))
        if tail is not None:
            return
        assert archive.position == position
    await archive.begin(head)
    await archive.write(file.buffers())
    if file.rolled_back:
        await archive.rollback()
    else:
        await archive.commit(zlib.crc32(file.data), len(file.data))


async def _make(files: Sequence[File], part_bytes: int, budget_bytes: int, order: Sequence[int] | None) -> Made:
    store, budget = MemoryStore(), ByteBudget(budget_bytes)
    ledger = MemoryLedger()
    archive = writer(store, part_bytes, budget, ledger)
    for index in order or range(len(files)):
        await add(archive, files[index], index)
    made = await archive.finish()
    data = store.objects[KEY]
    assert (made.key, made.name, made.size, made.etag) == (KEY, "archive.zip", len(data), store.etags[KEY])
    assert made.entries == sum(not file.rolled_back for file in files)
    return Made(data, store, budget, ledger)


def make(
    files: Sequence[File], part_bytes: int = 5 * MIB, budget_bytes: int = 64 * MIB, order: Sequence[int] | None = None
) -> Made:
    return asyncio.run(_make(files, part_bytes, budget_bytes, order))


def check(made: Made, files: Sequence[File]) -> None:
    """The archive holds exactly the files that were not rolled back, in the order of the request."""
    wanted = [file for file in files if not file.rolled_back]
    linted = lint(made.data)
    assert [entry.name for entry in linted.entries] == [file.name for file in wanted]
    assert not linted.zip64_end
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        for file, info in zip(wanted, archive.infolist(), strict=True):
            assert archive.read(info) == file.data
            assert info.compress_type == file.method
    assert made.budget.used_bytes == 0
    assert made.store.uploads == {}


names = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=40)
files = st.builds(
    File,
    names,
    st.binary(max_size=400),
    st.sampled_from(Method),
    st.booleans(),
    st.lists(st.integers(0, 500), max_size=6).map(tuple),
    st.none() | st.datetimes(timezones=st.just(UTC) | st.none()),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(files, min_size=1, max_size=12, unique_by=lambda file: file.name),
    st.integers(7, 700),
    st.integers(0, 3000),
    st.randoms(use_true_random=False),
)
def test_any_files_in_any_order_with_any_rollbacks_make_a_whole_archive(
    plans: list[File], part_bytes: int, budget_bytes: int, shuffled: random.Random
) -> None:
    """Names, sizes, cuts, rollbacks, part sizes and memory are arbitrary; the archive is right and nothing is left."""
    plans = [*plans, File("and one that stays.txt", b"kept")]
    order = list(range(len(plans)))
    shuffled.shuffle(order)
    check(make(plans, part_bytes, budget_bytes, order), plans)


@pytest.mark.parametrize("says_size", [True, False])
def test_a_header_may_lie_anywhere_across_the_border_of_two_parts(says_size: bool) -> None:
    """Every offset of a local header relative to a part border: it is filled in wherever its bytes ended up."""
    part_bytes = 200
    for shift in range(part_bytes):
        plans = [File("a", bytes(shift)), File("second.txt", b"x" * 333, says_size=says_size), File("c", b"end")]
        check(make(plans, part_bytes), plans)


@pytest.mark.parametrize("part_bytes", range(1, 60))
def test_a_header_may_lie_across_many_parts(part_bytes: int) -> None:
    """Parts smaller than a header are all held until it is complete, and rolled back as one."""
    plans = [File("one.txt", b"first"), File("two.txt", b"gone" * 50, rolled_back=True), File("three.txt", b"third")]
    check(make(plans, part_bytes, budget_bytes=0), plans)


@pytest.mark.parametrize("part_bytes", [64, 100, 333, 5000])
def test_an_entry_written_in_one_step_is_no_other(part_bytes: int) -> None:
    """The archive is byte for byte the one whose entries were begun, written and committed, wherever parts end."""
    plans = [File(f"{size}.txt", b"x" * size, Method.DEFLATED if size % 2 else Method.STORED) for size in range(60)]
    in_one_step = make([replace(plan, at_once=True) for plan in plans], part_bytes)
    assert in_one_step.data == make(plans, part_bytes).data


@pytest.mark.parametrize("size", range(0, 420, 7))
def test_a_rollback_leaves_not_a_byte(size: int) -> None:
    """An archive with rolled-back files is byte for byte the one that never had them, and reuses their numbers."""
    kept = [File("a.bin", b"a" * 90), File("b.bin", b"b" * 130)]
    lost = File("lost.bin", b"l" * size, rolled_back=True)
    with_lost = make([lost, kept[0], lost, lost, kept[1], lost], 128, order=[0, 1, 2, 3, 4, 5])
    without = make(kept, 128)
    assert with_lost.data == without.data
    numbers = sorted(set(with_lost.store.parts_sent))
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_rollback_after_a_cancelled_write_is_whole() -> None:
    """A write that is cancelled while it waits for the store can be rolled back, and the archive goes on."""

    class Slow(MemoryStore):
        go = asyncio.Event()

        async def upload_part(self, key: str, upload_id: str, number: int, body: PartBody) -> PartReceipt:
            await self.go.wait()
            return await super().upload_part(key, upload_id, number, body)

    async def story() -> None:
        store, budget = Slow(), ByteBudget(0)
        store.go = asyncio.Event()
        archive = writer(store, 100, budget)
        await archive.begin(EntryHead(0, "lost.bin"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await archive.write([bytes(5000)])
        store.go.set()
        await archive.rollback()
        await add(archive, File("kept.txt", b"kept" * 100), 1)
        await archive.finish()
        assert [entry.name for entry in lint(store.objects[KEY]).entries] == ["kept.txt"]
        assert budget.used_bytes == 0

    asyncio.run(story())


def test_parts_fly_at_once_only_as_memory_allows() -> None:
    """Without budget four parts are owned at most (so three fly); with budget as many fly as are allowed."""

    class Counting(MemoryStore):
        async def upload_part(self, key: str, upload_id: str, number: int, body: PartBody) -> PartReceipt:
            self.parts_sent.append(number)
            self._flying += 1
            self.flying_most = max(self._flying, self.flying_most)
            await asyncio.sleep(0.002)
            self._flying -= 1
            data = body.read()
            self.uploads[upload_id][number] = data
            return PartReceipt(number, "", len(data))

        async def complete(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str:
            self.objects[key] = b"".join(self.uploads.pop(upload_id)[receipt.number] for receipt in receipts[:0])
            raise StorageError("storage_failed", "not in this test")

    async def flying_most(budget_bytes: int) -> int:
        store, budget = Counting(), ByteBudget(budget_bytes)
        archive = writer(store, 1000, budget)
        await archive.begin(EntryHead(0, "a"))
        await archive.write([bytes(100)] * 400)
        assert budget.used_bytes <= budget_bytes
        await archive.close()
        assert budget.used_bytes == 0
        return store.flying_most

    assert asyncio.run(flying_most(0)) == 3
    assert asyncio.run(flying_most(100_000)) == 4


def test_the_upload_is_known_before_its_first_part_and_one_part_needs_none() -> None:
    """The ledger knows of all that is stored before it is; an archive of one part is a plain object."""
    small = make([File("a", b"a")])
    assert small.ledger.stored == {KEY: ""}
    assert small.store.parts_sent == []

    async def story() -> None:
        store = MemoryStore()

        class Refusing(MemoryLedger):
            async def storing(self, key: str, upload_id: str = "") -> None:
                if not upload_id:
                    assert store.uploads == {}
                    return
                assert upload_id in store.uploads
                assert store.parts_sent == []
                raise StorageError("storage_failed", "cannot be remembered")

        archive = writer(store, 100, ByteBudget(0), Refusing())
        await archive.begin(EntryHead(0, "a"))
        with pytest.raises(StorageError, match="remembered"):
            await archive.write([bytes(200)])
        assert store.parts_sent == []
        await archive.close()
        await archive.close()

    asyncio.run(story())


def test_an_archive_that_does_not_read_back_is_not_finished() -> None:
    """A store that changes a byte of the directory, cuts the object or swaps it is found out, by whatever shows it."""

    class Lying(MemoryStore):
        def __init__(self, lie: str) -> None:
            super().__init__()
            self.lie = lie

        async def complete(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str:
            etag = await super().complete(key, upload_id, receipts)
            data = bytearray(self.objects[key])
            if self.lie == "directory":
                data[-30] ^= 1
            elif self.lie == "size":
                del data[10:20]
            else:
                etag = self.etags[key] = "0" * 32 + "-1"
            self.objects[key] = bytes(data)
            return etag

    async def story(lie: str) -> None:
        store = Lying(lie)
        archive = writer(store, 100, ByteBudget(0))
        await add(archive, File("a", bytes(500)), 0)
        with pytest.raises(StorageError, match=lie) as caught:
            await archive.finish()
        assert caught.value.code == "verify_failed"

    for lie in ("directory", "size", "ETag"):
        asyncio.run(story(lie))


def test_a_size_that_cannot_be_true_is_refused() -> None:
    """An entry whose final size is not the announced one, or not what was stored, is a bug: it is not committed."""

    async def story() -> None:
        archive = writer(MemoryStore(), 100, ByteBudget(0))
        await archive.begin(EntryHead(0, "a", size=3))
        await archive.write([b"four"])
        with pytest.raises(ValueError, match="announced"):
            await archive.commit(0, 4)
        await archive.rollback()
        await archive.begin(EntryHead(0, "a"))
        await archive.write([b"four"])
        with pytest.raises(ValueError, match="announced"):
            await archive.commit(0, 5)
        await archive.rollback()
        assert (archive.entries, archive.position) == (0, 0)

    asyncio.run(story())


def test_part_plan_keeps_within_ten_thousand_parts() -> None:
    """The size is the configured one as long as it does, and then grows by whole MiB."""
    assert part_plan(8 * MIB, 64 * GIB) == 8 * MIB
    for gib in (50, 80, 1000, 5000):
        size = part_plan(5 * MIB, gib * GIB)
        assert gib * GIB / size < PARTS_MAX * 0.95
        assert size % MIB == 0


def test_part_numbers_end_at_ten_thousand() -> None:
    """An archive that would take more parts fails with a code of its own, and not at Complete."""

    async def story() -> None:
        store = MemoryStore()
        archive = writer(store, 1, ByteBudget(0))
        await archive.begin(EntryHead(0, "a"))
        with pytest.raises(StorageError) as caught:
            await archive.write([bytes(PARTS_MAX + 1)])
        assert (caught.value.code, caught.value.transient) == ("archive_too_large", False)
        await archive.close()

    asyncio.run(story())


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (None, (1980, 1, 1, 0, 0, 0)),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), (1980, 1, 1, 0, 0, 0)),
        (datetime(1970, 1, 1, tzinfo=UTC), (1980, 1, 1, 0, 0, 0)),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=12))), (2107, 12, 31, 23, 59, 58)),
        (NOON, (2026, 11, 25, 12, 34, 56)),
        (NOON.replace(tzinfo=None), (2026, 11, 25, 12, 34, 56)),
        (NOON.astimezone(timezone(timedelta(hours=-7))), (2026, 11, 25, 12, 34, 56)),
    ],
)
def test_times_are_clamped_to_what_dos_can_say(moment: datetime | None, expected: tuple[int, ...]) -> None:
    """Dates before 1980, after 2107 or without zone never fail an entry (A17)."""
    date, time = dos_time(moment)
    found = (date >> 9) + 1980, date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2
    assert found == expected


def test_unix_time_is_there_only_when_it_fits() -> None:
    """The extended timestamp holds 0 to 2^31-1; outside, and without a time, there is none."""
    tail = EntryTail(0, 0, 0, 0)
    last = datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)
    for moment, there in [(NOON, True), (last, True), (last + timedelta(seconds=1), False), (None, False),
                          (datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), False)]:  # fmt: skip
        assert (b"UT\5\0\1" in local_header(EntryHead(0, "a", moment, size=0), tail)) is there
        assert (b"UT\5\0\1" in central_header(EntryHead(0, "a", moment, size=0), tail)) is there


@pytest.mark.parametrize("size", [0xFFFFFFFE, 0xFFFFFFFF, 0x100000000])
@pytest.mark.parametrize("offset", [0, 0xFFFFFFFE, 0xFFFFFFFF, 0x100000000])
def test_zip64_is_exactly_where_a_field_overflows(size: int, offset: int) -> None:
    """0xFFFFFFFF itself is the placeholder, so it needs 64 bits too (A04)."""
    head = EntryHead(0, "a", None, Method.STORED, None)
    record = central_header(head, EntryTail(offset, 1, size, size))
    wide = 2 * (size >= 0xFFFFFFFF) + (offset >= 0xFFFFFFFF)
    assert len(record) == 46 + 1 + (4 + 8 * wide if wide else 0)
    assert record[6] == (45 if wide else 20)
    local = local_header(head, EntryTail(offset, 1, size, size))
    assert len(local) == 30 + 1 + 20
    assert local[4] == record[6]
    assert local[31:33] == (b"\1\0" if size >= 0xFFFFFFFF else b"\x35\xd9")


@given(st.integers(0, 0xFFFFFFFE), st.integers(0, 0xFFFFFFFE), st.integers(0, 1 << 33), st.booleans())
def test_a_blank_header_is_filled_in_where_it_lies(size: int, crc32: int, offset: int, is_announced: bool) -> None:
    """It becomes, byte for byte, what it would have been if all had been known from the start."""
    head = EntryHead(0, "name", NOON, Method.STORED, size if is_announced else None)
    tail = EntryTail(offset, crc32, size, size)
    header = bytearray(local_header(head, EntryTail(offset, 0, 0, 0)))
    fill_in(memoryview(header), tail)
    assert bytes(header) == local_header(head, tail)


def test_an_entry_that_outgrows_its_announcement_is_refused() -> None:
    """No room for 64-bit sizes was kept, so none can be written."""
    with pytest.raises(ValueError, match="outgrew"):
        local_header(EntryHead(0, "a", size=5), EntryTail(0, 0, 1 << 33, 1 << 33))


@pytest.mark.parametrize(("count", "wide"), [(65534, False), (65535, True), (65536, True)])
def test_zip64_end_records_are_exactly_where_needed(count: int, wide: bool) -> None:
    """65,535 entries are already too many for the classic record, whose 0xFFFF is the placeholder (A07)."""
    assert (len(end_records(count, 100, 100)) > 22) is wide
    assert len(end_records(1, 0xFFFFFFFE, 0xFFFFFFFE)) == 22
    assert len(end_records(1, 0xFFFFFFFF, 5)) == 22 + 76
    assert len(end_records(1, 5, 0xFFFFFFFF)) == 22 + 76


@pytest.mark.parametrize("name", ["", "x" * 65536, "caf\udce9.txt"])
def test_a_name_that_cannot_be_written_is_refused_before_a_byte_is(name: str) -> None:
    """Nothing is open after the refusal, so the archive goes on."""

    async def story() -> None:
        archive = writer(MemoryStore(), 100, ByteBudget(0))
        with pytest.raises(ValueError, match=r"name|surrogates"):
            await archive.begin(EntryHead(0, name))
        await add(archive, File("good", b"x"), 1)
        await archive.finish()

    asyncio.run(story())


# ---------------------------------------------------------------- other people's readers

LANGUAGES = [
    "отчёт.txt",
    "日本語/報告.txt",
    "résumé.txt",
    "🦊🦊.bin",
    "plain.txt",
    "dir/sub/deep.bin",
    "x" * 150 + ".dat",
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[File]]:
    """An archive of all kinds of entries, written in another order than asked for."""
    source = random.Random(7)
    plans = [
        File(
            name,
            source.randbytes(size) if index % 2 else b"text " * (size // 5),
            Method.STORED if index % 3 else Method.DEFLATED,
            says_size=index % 2 == 0,
            cuts=(100, 5000, 70_000),
        )
        for index, (name, size) in enumerate(zip(LANGUAGES, [15_000, 0, 1, 400_000, 15_000, 7, 90_000], strict=True))
    ]
    plans.insert(3, File("bad.bin", source.randbytes(300_000), rolled_back=True))
    made = make(plans, 65_536, order=[4, 1, 3, 0, 7, 6, 5, 2])
    check(made, plans)
    path = tmp_path_factory.mktemp("mixed") / "mixed.zip"
    path.write_bytes(made.data)
    return path, [file for file in plans if not file.rolled_back]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_every_reader_finds_every_file(read: Callable[[Path], list[Found]], mixed: tuple[Path, list[File]]) -> None:
    """Stored and deflated, of known and unknown size, empty and not, in many scripts; directory out of data order."""
    path, plans = mixed
    wanted = sorted((file.name, len(file.data), zlib.crc32(file.data)) for file in plans)
    assert sorted(read(path)) == wanted


@pytest.mark.parametrize(
    "count", [pytest.param(count, marks=pytest.mark.slow) for count in (65534, 65535, 65536, 70000)]
)
def test_many_entries_are_all_found(count: int, tmp_path: Path) -> None:
    """The 16-bit count neither wraps nor is taken for a placeholder (A07)."""

    async def story() -> bytes:
        store = MemoryStore()
        archive = writer(store, 5 * MIB, ByteBudget(0))
        for index in range(count):
            await archive.begin(EntryHead(index, f"f/{index:05}", None, Method.STORED, 4))
            await archive.write([b"%04d" % (index % 10000)])
            await archive.commit(isal_zlib.crc32(b"%04d" % (index % 10000)), 4)
        await archive.finish()
        return store.objects[KEY]

    data = asyncio.run(story())
    linted = lint(data)
    assert len(linted.entries) == count
    assert linted.zip64_end is (count > 65534)
    path = tmp_path / "many.zip"
    path.write_bytes(data)
    assert len(read_python(path)) == count
    if count in (65535, 70000):
        check_unzip(path)
        check_7z(path)
        assert len(read_java_file(path)) == len(read_java_stream(path)) == count


class SparseStore(MemoryStore):
    """Keeps the parts as they came, lists of the same few buffers, so that many GiB cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[int, PartBody] = {}
        self.part_bytes = 0
        self.size = 0

    async def upload_part(self, key: str, upload_id: str, number: int, body: PartBody) -> PartReceipt:
        self.bodies[number] = body
        return PartReceipt(number, "", len(body))

    async def complete(self, key: str, upload_id: str, receipts: Sequence[PartReceipt]) -> str:
        self.part_bytes = receipts[0].size
        self.size = sum(receipt.size for receipt in receipts)
        self.objects[key] = b""
        return "etag"

    async def head(self, key: str) -> ObjectInfo | None:
        return ObjectInfo(self.size, "etag")

    def range(self, start: int, end: int) -> bytes:
        found = b""
        while start < end:
            number, within = divmod(start, self.part_bytes)
            body = self.bodies[number + 1]
            body.seek(within)
            piece = body.read(min(end - start, self.part_bytes - within))
            found, start = found + piece, start + len(piece)
        return found

    async def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        yield self.range(start, end)


def huge(second: int) -> tuple[SparseStore, int]:
    """4.3 GiB of zeros of unknown size, then `second` bytes of them, and small files before, between and after."""

    async def story() -> SparseStore:
        store = SparseStore()
        archive = writer(store, 64 * MIB, ByteBudget(0))
        zeros = bytes(MIB)
        await add(archive, File("before.txt", b"before", says_size=False), 0)
        for index, size in ((1, 43 * GIB // 10), (3, second)):
            await archive.begin(EntryHead(index, f"zeros-{size}", NOON, Method.STORED, size if index == 3 else None))
            crc32, left = 0, size
            while left:
                piece = memoryview(zeros)[: min(left, MIB)]
                crc32, left = isal_zlib.crc32(piece, crc32), left - len(piece)
                await archive.write([piece])
            await archive.commit(crc32, size)
            await add(archive, File(f"after-{index}.txt", b"0123456789", says_size=index == 1), index + 1)
        await archive.finish()
        return store

    store = asyncio.run(story())
    return store, store.size


def test_entries_beyond_four_gib_carry_64_bits_exactly_where_needed() -> None:
    """Large sizes, offsets beyond 4 GiB of small entries, and an archive that ends with ZIP64 records (A04)."""
    store, size = huge(0xFFFFFFFF)
    linted = lint_by(store.range, size)
    assert linted.zip64_end
    extras = {entry.name: (1 in entry.local_extras, 1 in entry.central_extras) for entry in linted.entries}
    assert extras == {
        "before.txt": (False, False),
        f"zeros-{43 * GIB // 10}": (True, True),
        "after-1.txt": (False, True),
        "zeros-4294967295": (True, True),
        "after-3.txt": (False, True),
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_readers_take_an_archive_beyond_four_gib(tmp_path: Path) -> None:
    """Such an archive as a sparse file, read whole by all that can do so without unpacking it.

    None of its files has 0xFFFFFFFF bytes: Info-ZIP 6 takes that very size for a placeholder wherever it is.
    """
    store, size = huge(MIB)
    path = tmp_path / "huge.zip"
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            piece = store.range(start, min(start + MIB, size))
            if piece.count(0) == len(piece):
                file.seek(len(piece), 1)
            else:
                file.write(piece)
    check_unzip(path)
    check_7z(path)
    wanted = read_python(path)
    assert read_java_file(path) == wanted
    assert read_java_stream(path) == wanted


# ---------------------------------------------------------------- compression and bodies


async def deflated(pool: ThreadPoolExecutor, batches: Sequence[Sequence[bytes]], level: Level) -> bytes:
    """What becomes of the batches, given one after the other."""
    with Deflating(pool, level) as deflating:
        ready = [piece for batch in batches for piece in await deflating.take(batch)]
        return b"".join([*ready, *await deflating.finish()])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([0, 1, 5000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 5 * BLOCK_BYTES + 77]),
    st.lists(st.integers(0, 5 * BLOCK_BYTES), max_size=6),
    st.sampled_from(["balanced", "fast"]),
)
def test_deflated_bytes_inflate_to_what_they_were(size: int, cuts: list[int], level: Level) -> None:
    """Both levels write raw deflate that anybody can read, and the same bytes whatever pieces the file came in."""
    lines = b"".join(b"%d GET /orders/%d 200\n" % (n, n * n % 977) for n in range(70_000))
    data = lines[:size]
    assert len(data) == size
    marks = sorted({0, size, *(cut for cut in cuts if cut < size)})
    pieces = [data[start:end] for start, end in pairwise(marks)]
    with ThreadPoolExecutor(3) as pool:
        packed = asyncio.run(deflated(pool, [pieces[:2], pieces[2:]], level))
        whole = asyncio.run(deflated(pool, [[data]], level))
    assert zlib.decompress(packed, -15) == data
    assert packed == whole
    assert len(packed) < size / 3 + 100  # blocks know what came before them


@pytest.mark.parametrize(
    ("block", "content_type", "name", "worth"),
    [
        (b"line of a log\n" * 1000, "text/plain", "a.log", True),
        (b"line of a log\n" * 1000, None, "download", True),
        (b"line of a log\n" * 1000, "video/mp4", "a", False),
        (b"line of a log\n" * 1000, None, "photo.JPG", False),
        (b"PK\3\4" + bytes(9000), None, "renamed.txt", False),
        (random.Random(1).randbytes(9000), "text/plain", "random.txt", False),
        (b"", "text/plain", "empty.txt", False),
        (b"tiny", "text/plain", "tiny.txt", False),
    ],
)
def test_compression_is_judged_by_type_and_trial(
    block: bytes, content_type: str | None, name: str, worth: bool
) -> None:
    """What is packed already is stored, and so is what a trial cannot make smaller."""
    assert worth_compressing(block, content_type, name) is worth


@given(st.lists(st.binary(max_size=30)), st.integers(-5, 200), st.integers(-1, 200))
def test_a_body_reads_like_a_file(chunks: list[bytes], place: int, size: int) -> None:
    """Seeking, telling and reading agree with BytesIO over the joined bytes; pieces give the same bytes."""
    body, whole = PartBody(chunks), io.BytesIO(b"".join(chunks))
    place = min(max(place, 0), len(body))
    assert body.seek(place) == whole.seek(place)
    assert body.read(size) == whole.read(size)
    assert body.tell() == whole.tell()
    assert b"".join(body.pieces()) == whole.getvalue()
    assert body.crc32() == zlib.crc32(whole.getvalue())
    assert body
