//! The store on a disk whose power goes at the Nth write, truncation, sync or deletion, for every N.
//!
//! The disk is a SQLite VFS in memory. What was not synced when the power goes survives in part: each sector of each
//! write is kept or lost by chance. Then the machine starts again, and what had been acknowledged must be there, whole
//! batches only. A second disk runs full at the Nth write and is given room again.

#![allow(unsafe_code, reason = "a VFS is a table of C functions")]
#![allow(clippy::disallowed_types, reason = "SQLite may call the disk from any thread")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};
use tipring::chance::Chance;
use tipring::events::store::{Binding, Entry, Erase, Query, Store, StoreError, Usage, Write};
use tipring::events::upstream::state::{self, Condition};
use tipring::events::upstream::turn::Note;
use tipring::events::{CallResult, Cause, Direction, Event, Kind, Leg, Party, Recorder};
use tipring::now::Now;

const SECTOR: usize = 512;
/// 2026-11-20T00:00:00Z
const TODAY: i64 = 1_795_132_800_000_000;

/// A change that has not been synced.
#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { size: usize },
}

/// A file: what is on the platter, what the program sees, and what lies between.
#[derive(Default, Clone)]
struct File {
    durable: Vec<u8>,
    visible: Vec<u8>,
    pending: Vec<Change>,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes: new } => write_at(bytes, *at, new),
        Change::Truncate { size } => bytes.resize(*size, 0),
    }
}

fn write_at(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Well,
    /// The power goes at this operation.
    Cut {
        at: usize,
    },
    /// This write and those after it find no room.
    Full {
        from: usize,
    },
}

struct State {
    files: HashMap<String, File>,
    operations: usize,
    fate: Fate,
    powered: bool,
    chance: Chance,
}

impl State {
    /// Counts an operation that changes the disk; the error that it meets, if any.
    fn operate(&mut self, writes: bool) -> Result<(), c_int> {
        if !self.powered {
            return Err(ffi::SQLITE_IOERR);
        }
        self.operations += 1;
        match self.fate {
            Fate::Cut { at } if self.operations >= at => {
                self.powered = false;
                Ok(())
            }
            Fate::Full { from } if writes && self.operations >= from => Err(ffi::SQLITE_FULL),
            _ => Ok(()),
        }
    }

    /// What the platter holds after the power went.
    fn lose_power(&mut self) {
        for file in self.files.values_mut() {
            for change in std::mem::take(&mut file.pending) {
                match change {
                    Change::Write { at, bytes } => {
                        let mut from = 0;
                        while from < bytes.len() {
                            let to = (((at + from) / SECTOR + 1) * SECTOR - at).min(bytes.len());
                            if self.chance.happens(0.5) {
                                write_at(&mut file.durable, at + from, &bytes[from..to]);
                            }
                            from = to;
                        }
                    }
                    Change::Truncate { .. } if self.chance.happens(0.5) => {}
                    truncation => apply(&mut file.durable, &truncation),
                }
            }
            file.visible = file.durable.clone();
        }
    }
}

/// A disk, known to SQLite under its name.
struct Disk {
    name: CString,
    state: Mutex<State>,
}

impl Disk {
    fn new(name: &str, seed: u64) -> &'static Disk {
        let state = State {
            files: HashMap::new(),
            operations: 0,
            fate: Fate::Well,
            powered: true,
            chance: Chance::from_number(seed),
        };
        let disk: &'static Disk =
            Box::leak(Box::new(Disk { name: CString::new(name).unwrap(), state: Mutex::new(state) }));
        let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: c_int::try_from(size_of::<OpenFile>()).unwrap(),
            mxPathname: 256,
            pNext: std::ptr::null_mut(),
            zName: disk.name.as_ptr(),
            pAppData: std::ptr::from_ref(disk).cast_mut().cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: None,
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: the VFS and what it points to are never freed.
        assert_eq!(unsafe { ffi::sqlite3_vfs_register(vfs, 0) }, ffi::SQLITE_OK);
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn begin(&self, fate: Fate) {
        let mut state = self.state();
        state.operations = 0;
        state.fate = fate;
    }

    fn format(&self) {
        let mut state = self.state();
        state.files.clear();
        state.powered = true;
        state.fate = Fate::Well;
    }

    /// The power comes back after it went, or goes now and comes back.
    fn restart(&self) {
        let mut state = self.state();
        state.lose_power();
        state.powered = true;
        state.fate = Fate::Well;
    }

    fn open(&self) -> Result<Store, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Connection::open_with_flags_and_vfs("store.db", flags, self.name.as_c_str())?;
        // Small, so that check-points happen all the time.
        connection.execute_batch("PRAGMA wal_autocheckpoint = 6")?;
        Store::open(connection)
    }
}

/// What SQLite keeps of an open file.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    disk: *const Disk,
    name: *mut String,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// SAFETY of all functions below: SQLite calls them with the VFS of [`Disk::new`], with files that [`open`] has opened,
/// and with buffers of the lengths that it names.
unsafe fn with<T>(file: *mut ffi::sqlite3_file, act: impl FnOnce(&mut State, &str) -> T) -> T {
    let file = unsafe { &*file.cast::<OpenFile>() };
    let disk = unsafe { &*file.disk };
    act(&mut disk.state(), unsafe { &*file.name })
}

fn code(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(ffi::SQLITE_OK)
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    unsafe {
        let disk: *const Disk = (*vfs).pAppData.cast();
        let name = if name.is_null() {
            "temporary".into()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        };
        let file = file.cast::<OpenFile>();
        (*file).base.pMethods = std::ptr::null();
        let mut state = (*disk).state();
        if !state.powered {
            return ffi::SQLITE_CANTOPEN;
        }
        if !state.files.contains_key(&name) {
            if flags & ffi::SQLITE_OPEN_CREATE == 0 {
                return ffi::SQLITE_CANTOPEN;
            }
            state.files.insert(name.clone(), File::default());
        }
        (*file).base.pMethods = &raw const METHODS;
        (*file).disk = disk;
        (*file).name = Box::into_raw(Box::new(name));
        if !out_flags.is_null() {
            *out_flags = flags;
        }
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    drop(unsafe { Box::from_raw((*file.cast::<OpenFile>()).name) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, length: c_int, at: i64) -> c_int {
    let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), usize::try_from(length).unwrap()) };
    unsafe {
        with(file, |state, name| {
            if !state.powered {
                return ffi::SQLITE_IOERR_READ;
            }
            let Some(file) = state.files.get(name) else { return ffi::SQLITE_IOERR_READ };
            let rest = file.visible.get(usize::try_from(at).unwrap()..).unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            into[count..].fill(0);
            if count < into.len() { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK }
        })
    }
}

fn change(state: &mut State, name: &str, change: Change) -> c_int {
    let result = state.operate(matches!(change, Change::Write { .. }));
    let file = state.files.entry(name.to_owned()).or_default();
    if result.is_ok() {
        apply(&mut file.visible, &change);
        file.pending.push(change);
    }
    if state.powered { code(result) } else { ffi::SQLITE_IOERR_WRITE }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: i64,
) -> c_int {
    let bytes =
        unsafe { std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(length).unwrap()) }.to_vec();
    let at = usize::try_from(at).unwrap();
    unsafe { with(file, |state, name| change(state, name, Change::Write { at, bytes })) }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let size = usize::try_from(size).unwrap();
    unsafe { with(file, |state, name| change(state, name, Change::Truncate { size })) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    unsafe {
        with(file, |state, name| {
            let result = state.operate(false);
            if !state.powered {
                return ffi::SQLITE_IOERR_FSYNC;
            }
            if let Some(file) = state.files.get_mut(name) {
                file.durable = file.visible.clone();
                file.pending.clear();
            }
            code(result)
        })
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    unsafe {
        *size = with(file, |state, name| state.files.get(name).map_or(0, |file| file.visible.len()))
            .try_into()
            .unwrap();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, held: *mut c_int) -> c_int {
    unsafe { *held = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    c_int::try_from(SECTOR).unwrap()
}

/// As the VFS of the device has it: a write harms no bytes beside it.
unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, _: c_int) -> c_int {
    unsafe {
        let disk: *const Disk = (*vfs).pAppData.cast();
        let name = CStr::from_ptr(name).to_string_lossy();
        let mut state = (*disk).state();
        let result = state.operate(false);
        if !state.powered {
            return ffi::SQLITE_IOERR_DELETE;
        }
        match state.files.remove(name.as_ref()) {
            Some(_) => code(result),
            None => ffi::SQLITE_IOERR_DELETE_NOENT,
        }
    }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    there: *mut c_int,
) -> c_int {
    unsafe {
        let disk: *const Disk = (*vfs).pAppData.cast();
        let name = CStr::from_ptr(name).to_string_lossy();
        *there = c_int::from((*disk).state().files.contains_key(name.as_ref()));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > usize::try_from(room).unwrap() {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(vfs: *mut ffi::sqlite3_vfs, count: c_int, out: *mut c_char) -> c_int {
    unsafe {
        let disk: *const Disk = (*vfs).pAppData.cast();
        let out = std::slice::from_raw_parts_mut(out.cast::<u8>(), usize::try_from(count).unwrap());
        (*disk).state().chance.fill(out);
    }
    count
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, days: *mut f64) -> c_int {
    unsafe { *days = 2_461_365.0 };
    ffi::SQLITE_OK
}

/// Events of one batch.
const EVENTS: usize = 3;
/// Batches of one life.
const BATCHES: u64 = 5;

fn leg(batch: u64) -> Leg {
    Leg {
        leg_id: format!("leg-{batch}"),
        sip_call_id: None,
        line: "office".into(),
        direction: Direction::In,
        caller: Party::numbered(format!("+4930{batch:06}")),
        called: Party::numbered("101"),
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    }
}

fn batch(recorder: &mut Recorder, batch: u64) -> Vec<Write> {
    let now = Now { mono_us: batch, utc_us: TODAY + batch.cast_signed() };
    let mut writes: Vec<Write> = (0..EVENTS)
        .map(|n| {
            let cure = "x".repeat(n * 900 + usize::try_from(batch).unwrap() * 37);
            let kind = Kind::DeviceDegraded { part: "sound".into(), what: format!("batch {batch}"), cure };
            Write::Event(Box::new(recorder.record(now, Event::of_call(format!("call-{batch}"), kind))))
        })
        .collect();
    writes.push(Write::Call(Box::new(Entry {
        call_id: format!("call-{batch}"),
        leg: leg(batch),
        started_utc_us: now.utc_us,
        answered_utc_us: None,
        ended_utc_us: Some(now.utc_us),
        result: Some(CallResult::NoAnswer),
        cause: Cause::default(),
        total_us: batch,
        ring_us: batch,
        talk_us: 0,
        hold_us: 0,
        quality: None,
        recording_id: None,
        vote: None,
        transferred_to: None,
    })));
    writes.push(Write::Usage(Usage {
        day: "2026-11-20".into(),
        line: "office".into(),
        calls: 1,
        talk_us: 7,
    }));
    // An upstream is ahead of another one, and owed something.
    let first = (batch - 1) * EVENTS as u64 + 1;
    writes.push(Write::Upstream(state::State {
        name: "crm".into(),
        seen: first + 2,
        owed: [first, first + 1].into(),
        condition: Condition::Active,
        set_aside: batch,
    }));
    // A token that is good for one renewal takes the place of the one before it.
    let note = |key: &str, value: String| Note { key: key.into(), value: Some(value) };
    writes.push(Write::Notes {
        upstream: "crm".into(),
        notes: vec![note("tokens", format!("refresh-{batch}")), note("leg/1", format!("call-{batch}"))],
    });
    let contact = format!("sip:101@192.0.2.{batch}");
    writes.push(Write::Binding(Binding {
        line: "office".into(),
        flow: 1,
        address: "sip:101@d".into(),
        contact,
    }));
    writes
}

/// Everything that must hold after a restart: whole batches, each kind of data in step, nothing acknowledged missing.
fn examine(store: &Store, acknowledged: u64, what: &str) -> u64 {
    let last = store.last_sequence().unwrap();
    assert_eq!(last % EVENTS as u64, 0, "{what}: half a batch");
    let batches = last / EVENTS as u64;
    assert!(batches >= acknowledged, "{what}: {acknowledged} batches were acknowledged, {batches} are there");
    assert!(batches <= acknowledged + 1, "{what}: nobody wrote so much");
    let events = store.events_since(0, 10_000).unwrap();
    assert_eq!(events.len() as u64, last, "{what}");
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.sequence, index as u64 + 1, "{what}");
        let expected = format!("\"what\":\"batch {}\"", index / EVENTS + 1);
        assert!(event.data.contains(&expected), "{what}: {} {}", event.sequence, event.data);
    }
    let journal = store.journal(&Query { limit: 1000, ..Query::default() }).unwrap();
    let legs: Vec<_> = journal.entries.iter().rev().map(|entry| entry.leg.leg_id.clone()).collect();
    assert_eq!(legs, (1..=batches).map(|batch| format!("leg-{batch}")).collect::<Vec<_>>(), "{what}");
    let calls = store.usage().unwrap().first().map_or(0, |usage| usage.calls);
    assert_eq!(calls, batches, "{what}: the counter is in step");
    let upstreams = store.upstreams().unwrap();
    assert_eq!(upstreams.len() as u64, batches.min(1), "{what}");
    for state in upstreams {
        assert_eq!((state.seen, state.set_aside, state.low()), (last, batches, last - 3), "{what}");
        assert_eq!(state.owed, [last - 2, last - 1].into(), "{what}: what it is owed is in step");
        assert!(state.seen <= last, "{what}: nobody was told what is not there");
    }
    let notes = store.notes().unwrap().remove("crm").unwrap_or_default();
    let kept =
        |key: &str, what: &str| notes.get(key).cloned() == (batches > 0).then(|| format!("{what}-{batches}"));
    assert!(
        kept("tokens", "refresh") && kept("leg/1", "call"),
        "{what}: both notes are those of the last batch"
    );
    let contacts: Vec<_> = store.bindings().unwrap().into_iter().map(|binding| binding.contact).collect();
    let expected: Vec<_> = (batches > 0).then(|| format!("sip:101@192.0.2.{batches}")).into_iter().collect();
    assert_eq!(contacts, expected, "{what}");
    batches
}

/// One life of the program on the disk: the batches that were acknowledged.
fn live(disk: &Disk) -> u64 {
    let mut acknowledged = 0;
    let Ok(mut store) = disk.open() else { return 0 };
    let mut recorder = Recorder::new(0, Chance::from_number(5));
    for number in 1..=BATCHES {
        if store.commit(&batch(&mut recorder, number)).is_err() {
            break;
        }
        acknowledged = number;
    }
    acknowledged
}

#[test]
fn whatever_write_the_power_goes_at_nothing_acknowledged_is_lost() {
    // What of a torn write survives is chance: each round is another one.
    let mut cuts = 0;
    for round in 0.. {
        cuts += cut_everywhere(&format!("power-cut-{round}"), 11 + round);
        if cuts >= wanted_cuts() {
            break;
        }
    }
    println!("{cuts} power cuts");
}

/// Cuts in `make test` at least; `make soak` asks for more.
const CUTS: usize = 40;

#[allow(clippy::disallowed_methods, reason = "a test is asked for more by its environment")]
fn wanted_cuts() -> usize {
    std::env::var("TIPRING_CUTS").map_or(CUTS, |text| text.parse().expect("TIPRING_CUTS is a number"))
}

/// One cut at each operation on the disk.
fn cut_everywhere(name: &str, seed: u64) -> usize {
    let disk = Disk::new(name, seed);
    assert_eq!(live(disk), BATCHES);
    let operations = disk.state().operations;
    assert!(operations > 50, "{operations} operations are worth the name");

    let mut cuts = 0;
    for at in 1..=operations {
        disk.format();
        disk.begin(Fate::Cut { at });
        let acknowledged = live(disk);
        assert!(!disk.state().powered, "the power went at {at}");
        disk.restart();
        let what = format!("cut at {at} of {operations}");
        let mut store = disk.open().unwrap_or_else(|error| panic!("{what}: {error}"));
        let batches = examine(&store, acknowledged, &what);
        cuts += 1;

        // Life goes on from there, and the second start finds it.
        let mut recorder = Recorder::new(store.last_sequence().unwrap(), Chance::from_number(6));
        store.commit(&batch(&mut recorder, batches + 1)).unwrap();
        drop(store);
        disk.restart();
        examine(&disk.open().unwrap(), batches + 1, &what);
    }
    assert_eq!(cuts, operations);
    cuts
}

#[test]
fn a_cut_during_pruning_or_erasing_leaves_the_whole_or_nothing_of_it() {
    let disk = Disk::new("power-cut-prune", 12);
    let later = TODAY + 90 * 86_400_000_000;
    let act = |disk: &Disk| -> Result<(), StoreError> {
        let mut store = disk.open()?;
        store.erase(&Erase::Number("030000002".into()), later)?;
        store.prune(later, Duration::from_secs(86_400), u64::MAX)?;
        Ok(())
    };
    assert_eq!(live(disk), BATCHES);
    let files = disk.state().files.clone();
    let mut at = 0;
    loop {
        at += 1;
        disk.format();
        disk.state().files = files.clone();
        disk.begin(Fate::Cut { at });
        let finished = act(disk).is_ok();
        disk.restart();
        let store = disk.open().unwrap();
        assert_eq!(store.last_sequence().unwrap(), BATCHES * EVENTS as u64, "cut at {at}");
        let kinds: Vec<_> =
            store.events_since(0, 1000).unwrap().into_iter().map(|it| (it.sequence, it.kind)).collect();
        let gaps: Vec<_> =
            kinds.iter().filter(|(_, kind)| kind == "gap").map(|(sequence, _)| *sequence).collect();
        let legs = store.journal(&Query { limit: 1000, ..Query::default() }).unwrap().entries.len();
        match (gaps.as_slice(), kinds.len(), legs) {
            ([], 15, 5) if !finished => {}
            ([6], 13, 4) if !finished => {}
            // What the upstream is still owed is left.
            ([12], 4, 0) => {}
            other => panic!("cut at {at}: {other:?}"),
        }
        if finished {
            break;
        }
    }
    assert!(at > 20, "{at} operations are worth the name");
}

#[test]
fn a_full_disk_is_told_and_the_batch_can_be_tried_again() {
    let disk = Disk::new("full-disk", 13);
    let mut store = disk.open().unwrap();
    let mut recorder = Recorder::new(0, Chance::from_number(5));
    store.commit(&batch(&mut recorder, 1)).unwrap();
    for number in 2..=20 {
        disk.begin(Fate::Full { from: usize::try_from(number).unwrap() % 5 + 1 });
        let waiting = batch(&mut recorder, number);
        match store.commit(&waiting) {
            Err(error) => {
                assert!(matches!(error, StoreError::Full), "{error}");
                assert!(error.to_string().contains("free space") && error.may_pass(), "{error}");
                assert_eq!(
                    store.last_sequence().unwrap(),
                    (number - 1) * EVENTS as u64,
                    "nothing of the batch is there"
                );
                disk.begin(Fate::Well);
                store.commit(&waiting).unwrap();
            }
            Ok(_) => disk.begin(Fate::Well),
        }
        examine(&store, number, "after the disk was full");
    }
    drop(store);
    examine(&disk.open().unwrap(), 20, "after a restart");
}

#[test]
fn a_damaged_or_forbidden_file_is_told_with_its_cure() {
    let disk = Disk::new("damaged", 14);
    assert_eq!(live(disk), BATCHES);
    for file in disk.state().files.values_mut() {
        file.visible.fill(0x55);
    }
    let error = disk.open().unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");

    disk.state().powered = false;
    let error = disk.open().unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    assert!(error.to_string().contains("let tipring's user write"), "{error}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "locks need a real file")]
fn a_store_in_use_or_opened_for_reading_is_told_with_its_cure() {
    let folder = std::env::temp_dir().join(format!("tipring-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("store.db");
    let mut store = Store::open(Connection::open(&file).unwrap()).unwrap();
    store.commit(&batch(&mut Recorder::new(0, Chance::from_number(5)), 1)).unwrap();
    let error = Store::open(Connection::open(&file).unwrap()).unwrap_err();
    assert!(matches!(error, StoreError::InUse), "{error}");
    assert!(error.to_string().contains("another tipring runs"), "{error}");
    drop(store);
    let reading = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let error = Store::open(reading).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    examine(&Store::open(Connection::open(&file).unwrap()).unwrap(), 1, "on a real file");
    std::fs::remove_dir_all(&folder).unwrap();
}
