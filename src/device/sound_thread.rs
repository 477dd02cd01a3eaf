//! The sound thread: it opens the sound back-end, and writes what the media thread records to files. Both may block, and
//! neither may hold up a call.
//!
//! A device that has had nothing to do for a while is closed, so that no microphone is open and no sound system works for nothing; as
//! soon as it rings or somebody calls it is opened again. Whether it is still there is looked at in between.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::media_thread::Taped;
use super::sound::cpal::CpalBackend;
use super::sound::file::{FileBackend, HEARD};
use super::sound::none::NoneBackend;
use super::sound::tone::ToneBackend;
use super::sound::{Backend, Gauge, Slips, SoundPort, Trouble};
use super::vital::Vital;
use crate::audio::wav::{self, WavWriter};
use crate::config::{self, Audio};
use crate::media::{Recorded, RecordingId, Terminal};
use crate::now::CLOCK_WAS_SET;

/// Pieces of recordings that may wait for the disk: ten seconds of a few calls. The queue takes its memory at once.
const QUEUE: usize = 2048;
/// A back-end that could not be opened, or went away, is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// A device rests after being quiet for so long.
const REST_AFTER: Duration = Duration::from_secs(10);
/// How often a device that rests is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The same in a call, and while it rings.
const RETRY_IN_CALL: Duration = Duration::from_secs(1);
/// A device that takes or gives nothing for so long is dead, whatever its system says.
const DEAD_AFTER: Duration = Duration::from_secs(2);
/// How long the sound system may take to end a stream.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Gaps in the sound are told at most this often.
const SLIPS_EVERY: Duration = Duration::from_secs(60);
/// How often open files are looked after when nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// How often old recordings are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Where recordings are kept, and how much of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shelf {
    /// The folder.
    pub folder: PathBuf,
    /// What is older goes.
    pub retention: Duration,
    /// Beyond this many bytes the oldest go.
    pub bytes: u64,
}

/// What the sound thread is asked to do.
pub enum Order {
    /// Open this back-end in place of the one before.
    Open(Audio),
    /// The engine has nothing to play and nobody listens, or that is over.
    Quiet(bool),
    /// A piece of a recording.
    Taped(Taped),
    /// The recording of this number goes to this file, and has this name.
    Recording {
        /// As the engine numbers it.
        number: RecordingId,
        /// As events name it.
        name: String,
        /// Where it goes.
        path: PathBuf,
    },
    /// Keep recordings like this from now on.
    Shelf(Shelf),
    /// Finish all files and end.
    Stop,
}

/// What the sound thread tells the control thread.
pub enum Notice {
    /// A back-end is open.
    Opened {
        /// What the engine is told of it.
        terminal: Terminal,
        /// Its rings.
        port: Option<SoundPort>,
    },
    /// The back-end is closed until it has something to do.
    Resting,
    /// There is no sound, and why.
    Failed(String),
    /// A recording is complete.
    Ready {
        /// Its name.
        name: String,
        /// Its length in microseconds.
        duration_us: u64,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A recording is gone.
    Deleted {
        /// Its name.
        name: String,
        /// `age` or `size`.
        reason: &'static str,
    },
    /// A recording could not be written, and why.
    Unwritten(String),
}

/// The other end of the sound thread.
#[derive(Clone)]
pub struct SoundThread(SyncSender<Box<Order>>);

impl SoundThread {
    /// Starts the thread. `notices` is called on it.
    pub fn start(
        notices: impl Fn(Notice) + Send + 'static,
    ) -> std::io::Result<(SoundThread, std::thread::JoinHandle<()>)> {
        let (orders, inbox) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("sound".into()).spawn(move || {
            let vital = Vital::thread("sound");
            Studio::new(Box::new(notices)).run(&inbox);
            vital.ends();
        })?;
        Ok((SoundThread(orders), thread))
    }

    /// Asks for the end; what waits before is still written.
    pub fn stop(&self) {
        // Waits where the queue is full: the order to stop must get in.
        let _ = self.0.send(Box::new(Order::Stop));
    }

    /// Hands over an order; false if the disk is so far behind that the queue is full.
    pub fn order(&self, order: Order) -> bool {
        match self.0.try_send(Box::new(order)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

/// An open back-end.
struct Open {
    /// What must live as long as the sound does.
    keep: Box<dyn std::any::Any + Send>,
    troubles: Receiver<Trouble>,
    device: Option<Device>,
}

/// What a sound device does, as far as the log was told.
struct Device {
    gauge: Arc<Gauge>,
    rate: u32,
    told: Slips,
    told_at: Option<Instant>,
    /// How often it had taken and given, and since when.
    turns: [(u64, Instant); 2],
}

impl Device {
    fn new(gauge: Arc<Gauge>, rate: u32) -> Device {
        Device { gauge, rate, told: Slips::default(), told_at: None, turns: [(0, Instant::now()); 2] }
    }

    /// Tells the log what was not heard, now and then; whether the device stands still.
    fn watch(&mut self) -> bool {
        if self.told_at.is_none_or(|at| at.elapsed() >= SLIPS_EVERY) {
            self.tell();
        }
        for (known, turns) in self.turns.iter_mut().zip(self.gauge.turns()) {
            if known.0 != turns {
                *known = (turns, Instant::now());
            }
        }
        self.turns.iter().any(|(_, since)| since.elapsed() >= DEAD_AFTER)
    }

    /// Tells the log what was not heard since it was told last.
    fn tell(&mut self) {
        let slips = self.gauge.slips();
        if slips == self.told {
            return;
        }
        tracing::warn!("{}", slips.since(self.told).story(self.rate));
        (self.told, self.told_at) = (slips, Some(Instant::now()));
    }
}

/// A file that is being written.
struct Tape {
    name: Option<String>,
    path: PathBuf,
    writer: Option<WavWriter<BufWriter<File>>>,
    rate: u32,
    channels: u16,
}

struct Studio {
    notices: Box<dyn Fn(Notice) + Send>,
    backend: Option<Box<dyn Backend>>,
    open: Option<Open>,
    /// Since when there has been nothing to play.
    quiet: Option<Instant>,
    /// The device is closed for want of something to do; when it was last seen.
    resting: Option<Instant>,
    output: Option<PathBuf>,
    tapes: HashMap<RecordingId, Tape>,
    retry: Option<Instant>,
    shelf: Option<Shelf>,
    pruned: Option<Instant>,
}

impl Studio {
    fn new(notices: Box<dyn Fn(Notice) + Send>) -> Studio {
        Studio {
            notices,
            backend: None,
            open: None,
            quiet: Some(Instant::now()),
            resting: None,
            output: None,
            tapes: HashMap::new(),
            retry: None,
            shelf: None,
            pruned: None,
        }
    }

    fn run(mut self, inbox: &Receiver<Box<Order>>) {
        loop {
            match inbox.recv_timeout(TICK).map(|order| *order) {
                Ok(Order::Open(audio)) => {
                    self.backend = Some(backend(&audio));
                    self.open();
                }
                Ok(Order::Quiet(quiet)) => {
                    self.quiet = quiet.then(Instant::now);
                    if !quiet && self.open.is_none() {
                        self.open();
                    }
                }
                Ok(Order::Recording { number, name, path }) => self.prepare(number, name, path),
                Ok(Order::Taped(taped)) => self.tape(taped),
                Ok(Order::Shelf(shelf)) => {
                    self.complete_cut_off(&shelf);
                    self.shelf = Some(shelf);
                    self.pruned = None;
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    for number in self.tapes.keys().copied().collect::<Vec<_>>() {
                        self.finish(number);
                    }
                    self.close();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.watch();
            self.prune();
        }
    }

    fn open(&mut self) {
        // The old streams end before new ones begin: a device may allow only one.
        self.close();
        let Some(backend) = &self.backend else { return };
        (self.retry, self.resting) = (None, None);
        let (complain, troubles) = sync_channel(1);
        match backend.open(complain) {
            Ok(opened) => {
                self.output = opened.output;
                let device = match (&opened.port, &opened.terminal) {
                    (Some(port), &Terminal::Device { rate, .. }) => Some(Device::new(port.gauge(), rate)),
                    _ => None,
                };
                self.open = Some(Open { keep: opened.keep, troubles, device });
                (self.notices)(Notice::Opened { terminal: opened.terminal, port: opened.port });
            }
            Err(error) => {
                self.fails(error.to_string());
            }
        }
    }

    /// There is no sound; it is tried again, the sooner if somebody is in a call.
    fn fails(&mut self, why: String) {
        let after = if self.quiet.is_some() { RETRY } else { RETRY_IN_CALL };
        self.retry = Some(Instant::now() + after);
        (self.notices)(Notice::Failed(why));
    }

    /// Ends the streams. A sound system may never come back from that (cpal's PulseAudio host does not when the server
    /// has killed a stream), so another thread does it, and is left behind when it takes too long.
    fn close(&mut self) {
        let Some(Open { keep, mut device, .. }) = self.open.take() else { return };
        if let Some(device) = &mut device {
            device.tell();
        }
        let (done, ended) = sync_channel(1);
        let end = move || {
            drop(keep);
            // Nobody waits any longer for one who was late.
            let _ = done.try_send(());
        };
        let started = std::thread::Builder::new().name("sound-end".into()).spawn(end);
        if started.is_ok() && ended.recv_timeout(CLOSE_WITHIN) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the sound system does not end a stream; it is left behind");
        }
    }

    fn watch(&mut self) {
        let quiet = self.quiet.is_some();
        let stands_still = |device: &mut Device| device.watch() && !quiet;
        let trouble = self.open.as_mut().and_then(|open| match open.troubles.try_recv() {
            Ok(trouble) => Some(trouble.why),
            Err(_) if open.device.as_mut().is_some_and(stands_still) => {
                Some("it takes or gives nothing any more".to_owned())
            }
            Err(_) => None,
        });
        if let Some(why) = trouble {
            self.close();
            self.fails(format!(
                "the sound device is gone: {why}; plug it in again, it is tried every few seconds"
            ));
        }
        if self.retry.is_some_and(|at| at <= Instant::now()) {
            self.open();
        }
        self.rest();
    }

    /// Closes a device that has been quiet for long enough, and sees whether one that is closed is still there.
    fn rest(&mut self) {
        let is_device = self.open.as_ref().is_some_and(|open| open.device.is_some());
        if is_device && self.quiet.is_some_and(|since| since.elapsed() >= REST_AFTER) {
            self.close();
            self.resting = Some(Instant::now());
            (self.notices)(Notice::Resting);
        }
        if self.resting.is_some_and(|seen| seen.elapsed() >= LOOK_EVERY) {
            self.resting = Some(Instant::now());
            if let Some(Err(error)) = self.backend.as_ref().map(|backend| backend.look()) {
                self.resting = None;
                self.fails(error.to_string());
            }
        }
    }

    /// Deletes recordings that are too old, and then the oldest until the rest fits.
    fn prune(&mut self) {
        let Some(shelf) = &self.shelf else { return };
        if self.pruned.is_some_and(|at| at.elapsed() < PRUNE_EVERY) {
            return;
        }
        self.pruned = Some(Instant::now());
        let (mut kept, now) = (0, SystemTime::now());
        for tape in tapes_on(shelf) {
            let too_old = is_older(tape.modified, now, shelf.retention);
            let reason = match too_old {
                true => "age",
                false if kept + tape.bytes > shelf.bytes => "size",
                false => {
                    kept += tape.bytes;
                    continue;
                }
            };
            if fs::remove_file(&tape.path).is_ok() {
                (self.notices)(Notice::Deleted { name: tape.name, reason });
            }
        }
    }

    /// Completes the recordings that are not being written any more, though nobody finished them: the program or the
    /// machine was ended at once.
    fn complete_cut_off(&self, shelf: &Shelf) {
        for cut_off in tapes_on(shelf) {
            if !self.tapes.values().any(|tape| tape.path == cut_off.path) {
                complete(&cut_off.path);
            }
        }
    }

    fn prepare(&mut self, number: RecordingId, name: String, path: PathBuf) {
        self.tapes.insert(number, Tape { name: Some(name), path, writer: None, rate: 0, channels: 0 });
    }

    fn tape(&mut self, taped: Taped) {
        match taped {
            Taped::Started(Recorded::Started { recording, rate, channels }) => {
                if let (HEARD, Some(path)) = (recording, &self.output) {
                    let path = path.clone();
                    self.tapes.insert(HEARD, Tape { name: None, path, writer: None, rate: 0, channels: 0 });
                }
                let Some(tape) = self.tapes.get_mut(&recording) else { return };
                (tape.rate, tape.channels) = (rate, channels);
                match create(&tape.path, rate, channels) {
                    Ok(writer) => tape.writer = Some(writer),
                    Err(why) => self.give_up(recording, &why),
                }
            }
            Taped::Samples(Recorded::Samples { recording }, samples) => {
                let Some(writer) = self.tapes.get_mut(&recording).and_then(|tape| tape.writer.as_mut())
                else {
                    return;
                };
                if let Err(error) = writer.write(&samples) {
                    self.give_up(recording, &error.to_string());
                }
            }
            Taped::Finished(Recorded::Finished { recording, .. }) => self.finish(recording),
            _ => {}
        }
    }

    fn finish(&mut self, recording: RecordingId) {
        let Some(tape) = self.tapes.remove(&recording) else { return };
        let Some(writer) = tape.writer else { return };
        let frames = writer.samples() / u64::from(tape.channels.max(1));
        match writer.finish() {
            Ok(file) => {
                let bytes = file.get_ref().metadata().map_or(0, |metadata| metadata.len());
                let duration_us = frames.saturating_mul(1_000_000) / u64::from(tape.rate.max(1));
                if let Some(name) = tape.name {
                    (self.notices)(Notice::Ready { name, duration_us, bytes });
                }
            }
            Err(error) => {
                complete(&tape.path);
                (self.notices)(Notice::Unwritten(unwritten(&tape.path, &error.to_string())));
            }
        }
    }

    fn give_up(&mut self, recording: RecordingId, why: &str) {
        if let Some(tape) = self.tapes.remove(&recording) {
            // What still waits for the disk is written by this, if there is room.
            drop(tape.writer);
            complete(&tape.path);
            (self.notices)(Notice::Unwritten(unwritten(&tape.path, why)));
        }
    }
}

/// A recording on the disk.
struct Shelved {
    path: PathBuf,
    name: String,
    bytes: u64,
    modified: SystemTime,
}

/// Whether a file that was last changed then is older than this. Nobody knows that of one which is as old as a clock that was never
/// set, nor while it still is not.
fn is_older(modified: SystemTime, now: SystemTime, most: Duration) -> bool {
    let set = UNIX_EPOCH + Duration::from_micros(CLOCK_WAS_SET.unsigned_abs());
    modified >= set && now.duration_since(modified).is_ok_and(|age| age > most)
}

/// Whether a file is named as a recording is: by its call, of twelve hexadecimal digits, and a number.
fn is_recording(name: &str) -> bool {
    name.split_once('-').is_some_and(|(call, number)| {
        call.len() == 12
            && call.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The finished recordings, newest first.
fn tapes_on(shelf: &Shelf) -> Vec<Shelved> {
    let Ok(folder) = fs::read_dir(&shelf.folder) else { return Vec::new() };
    let mut tapes: Vec<Shelved> = folder
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".wav")?;
            let name = is_recording(name).then(|| name.to_owned())?;
            let metadata = fs::metadata(&path).ok()?;
            Some(Shelved { path, name, bytes: metadata.len(), modified: metadata.modified().ok()? })
        })
        .collect();
    tapes.sort_by_key(|tape| std::cmp::Reverse(tape.modified));
    tapes
}

fn backend(audio: &Audio) -> Box<dyn Backend> {
    let path = |name: &Option<String>| name.as_ref().map(PathBuf::from);
    let device = |name: &Option<String>| name.clone().unwrap_or_else(|| "default".into());
    match audio.backend {
        config::Backend::Cpal => {
            Box::new(CpalBackend::new(device(&audio.input), device(&audio.output), audio.ring_device.clone()))
        }
        config::Backend::File => {
            Box::new(FileBackend { input: path(&audio.input), output: path(&audio.output) })
        }
        config::Backend::Tone => Box::new(ToneBackend),
        config::Backend::None => Box::new(NoneBackend),
    }
}

fn create(path: &Path, rate: u32, channels: u16) -> Result<WavWriter<BufWriter<File>>, String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    let file = File::create(path).map_err(|error| error.to_string())?;
    WavWriter::new(BufWriter::new(file), rate, channels).map_err(|error| error.to_string())
}

/// Has the header of a recording that was cut off tell how much there is: with none, many programs play nothing, and the
/// interface takes it for one that is still being written. It stays as old as it is.
fn complete(path: &Path) {
    let completed = || -> std::io::Result<bool> {
        let metadata = fs::metadata(path)?;
        // What is heard may go to a pipe, and opening that would wait for somebody to write.
        if !metadata.is_file() || metadata.len() <= wav::HEADER as u64 {
            return Ok(false);
        }
        let mut head = [0; wav::HEADER];
        File::open(path)?.read_exact(&mut head)?;
        let Some(head) = wav::completed(&head, metadata.len()) else { return Ok(false) };
        let mut file = File::options().write(true).open(path)?;
        file.write_all(&head)?;
        file.set_modified(metadata.modified()?)?;
        Ok(true)
    };
    match completed() {
        Ok(true) => {
            tracing::info!("the recording {} was cut off; what there is can be heard", path.display())
        }
        Ok(false) => {}
        Err(error) => tracing::warn!("the recording {} can't be completed: {error}", path.display()),
    }
}

fn unwritten(path: &Path, why: &str) -> String {
    format!("{} can't be written: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::wav::WavReader;

    #[test]
    fn nobody_knows_the_age_of_what_was_recorded_before_the_clock_was_set() {
        let (day, month) = (Duration::from_secs(86_400), Duration::from_secs(30 * 86_400));
        let now = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        assert!(is_older(now - month - day, now, month));
        assert!(!is_older(now - month + day, now, month));
        assert!(!is_older(UNIX_EPOCH + day, now, month), "recorded in 1970");
        assert!(!is_older(now, UNIX_EPOCH + day, month), "it is 1970 now");
        assert!(!is_older(UNIX_EPOCH, UNIX_EPOCH + month + day, month), "it is 1970 all the time");
    }

    #[test]
    fn only_recordings_are_taken_off_the_shelf() {
        for (name, ours) in [
            ("d8bb20b5919b-1", true),
            ("d8bb20b5919b-12", true),
            ("announcement", false),
            ("d8bb20b5919b", false),
            ("d8bb20b5919b-", false),
            ("d8bb20b5919b-x", false),
            ("d8bb20b5919-1", false),
            ("night-1", false),
        ] {
            assert_eq!(is_recording(name), ours, "{name}");
        }
    }

    #[test]
    fn a_recording_that_a_power_cut_has_ended_is_complete_after_the_next_start() {
        let folder = std::env::temp_dir().join(format!("tipring-cut-off-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = |name: &str| folder.join(format!("{name}.wav"));
        let old = SystemTime::now() - Duration::from_secs(3600);
        let write = |name: &str, promised: u32, octets: usize| {
            let bytes = [&wav::header(8000, 2, promised)[..], &vec![7; octets]].concat();
            fs::write(path(name), bytes).expect("a file");
            let file = File::options().write(true).open(path(name)).expect("a file");
            file.set_modified(old).expect("a time");
        };
        write("d8bb20b5919b-1", 0, 1003);
        write("d8bb20b5919b-2", 4, 8);
        write("announcement", 0, 1000);
        let (thread, ended) = SoundThread::start(|_| {}).expect("a thread");
        let shelf = Shelf { folder: folder.clone(), retention: Duration::from_secs(86_400), bytes: 1 << 30 };
        assert!(thread.order(Order::Shelf(shelf)));
        thread.stop();
        ended.join().expect("the thread ends");
        let promised = |name: &str| {
            let read = WavReader::new(File::open(path(name)).expect("a file")).expect("a WAV file");
            read.promised()
        };
        assert_eq!(promised("d8bb20b5919b-1"), Some(250), "whole frames");
        assert_eq!(promised("d8bb20b5919b-2"), Some(1), "whatever has a length is left alone");
        assert_eq!(promised("announcement"), None, "no recording of ours");
        let modified = fs::metadata(path("d8bb20b5919b-1")).and_then(|it| it.modified()).expect("a time");
        assert_eq!(modified, old, "it is as old as before");
        fs::remove_dir_all(&folder).expect("the folder goes");
    }

    #[test]
    fn a_recording_that_has_to_be_given_up_is_complete_as_far_as_it_came() {
        let folder = std::env::temp_dir().join(format!("tipring-given-up-{}", std::process::id()));
        let path = folder.join("d8bb20b5919b-1.wav");
        let (said, told) = sync_channel(1);
        let notices =
            move |notice| said.send(matches!(notice, Notice::Unwritten(_))).expect("somebody hears");
        let mut studio = Studio::new(Box::new(notices));
        let recording = RecordingId(5);
        studio.prepare(recording, "d8bb20b5919b-1".to_owned(), path.clone());
        studio.tape(Taped::Started(Recorded::Started { recording, rate: 8000, channels: 1 }));
        studio.tape(Taped::Samples(Recorded::Samples { recording }, vec![3; 500]));
        studio.give_up(recording, "the disk is full");
        assert_eq!(told.try_recv(), Ok(true));
        let read = WavReader::new(File::open(&path).expect("a file")).expect("a WAV file");
        assert_eq!(read.promised(), Some(500));
        fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
