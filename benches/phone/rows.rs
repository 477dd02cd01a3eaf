//! The rows of the table: what is done and what is counted.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::program::{Awake, BOTH, Make, Program, Task, Workshop};
use crate::registrar::{Call, Registrar};
use crate::sound::{self, Payloads, WIDE};
use crate::streams::{Seat, Streams, Tally};
use crate::usage::{self, Memory, median};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Amount {
    /// Starts of each program.
    pub starts: usize,
    /// Calls of each program.
    pub calls: usize,
    /// Seconds of idleness.
    pub idle: u64,
    /// Seconds of each round of calls.
    pub talk: u64,
    /// Rounds.
    pub rounds: usize,
    /// Seconds of the short and the long run under callgrind.
    pub counted: [u64; 2],
}

/// The calls at once of the row for many calls.
pub const MANY: usize = 32;
/// The calls at once while instructions are counted.
pub const COUNTED: usize = 8;

/// A value of each program.
pub type Pair<T> = [T; 2];

/// Everything that the rows share.
pub struct Bench {
    pub workshop: Workshop,
    pub registrar: Registrar,
    pub amount: Amount,
}

/// What calls at once cost.
#[derive(Clone, Copy, Default)]
pub struct Talk {
    /// Milliseconds on a processor per second.
    pub cpu: f64,
    /// Bytes of resident memory beyond the idle program.
    pub grown: f64,
    /// Threads before and during.
    pub threads: [usize; 2],
    /// Packets that came back, of those that should have.
    pub returned: f64,
}

impl Bench {
    fn user(make: Make, what: &str) -> String {
        format!("{make:?}-{what}").to_lowercase()
    }

    fn narrow_wav(&self, seconds: u32) -> Result<PathBuf, String> {
        let path = self.workshop.folder.join(format!("speech-8000-{seconds}.wav"));
        sound::write_wav(&path, &sound::speech(7, 8000, seconds), 8000, 8000).map(|()| path)
    }

    fn run(&mut self, make: Make, what: &str, codec: &str, wav: &Path) -> Result<(Program, String), String> {
        let user = Self::user(make, what);
        let task = Task::new(&user, &self.registrar, codec, wav);
        let program = self.workshop.run(make, &task)?;
        self.registrar.registered(&user).map_err(|error| format!("{error}:\n{}", program.output()))?;
        Ok((program, user))
    }

    fn end(&mut self, mut program: Program) {
        program.ask_to_end();
        let end = Instant::now() + Duration::from_secs(10);
        while !program.ended() && Instant::now() < end {
            self.registrar.serve(Duration::from_millis(5));
        }
    }

    /// Milliseconds from the start of a program to the 200 of its REGISTER, in turns.
    pub fn starts(&mut self) -> Result<Pair<Vec<f64>>, String> {
        let wav = self.narrow_wav(2)?;
        let mut took: Pair<Vec<f64>> = Default::default();
        // The first start makes the store and warms the page cache; it does not count.
        for round in 0..=self.amount.starts {
            for (make, took) in BOTH.into_iter().zip(&mut took) {
                let user = Self::user(make, "start");
                let task = Task::new(&user, &self.registrar, "PCMA", &wav);
                let mut command = self.workshop.prepare(make, &task)?;
                self.registrar.forget();
                let (program, begun) = self.workshop.start(&user, &mut command)?;
                let at = self
                    .registrar
                    .registered(&user)
                    .map_err(|error| format!("{error}:\n{}", program.output()))?;
                if round > 0 {
                    took.push(at.duration_since(begun).as_secs_f64() * 1e3);
                }
                self.registrar.serve(Duration::from_millis(30));
                self.end(program);
            }
        }
        Ok(took)
    }

    /// Milliseconds from INVITE to its 200, in turns.
    pub fn set_ups(&mut self) -> Result<Pair<Vec<f64>>, String> {
        let wav = self.narrow_wav(2)?;
        let running = [self.run(BOTH[0], "setup", "PCMA", &wav)?, self.run(BOTH[1], "setup", "PCMA", &wav)?];
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let offer = sound::offer("PCMA", socket.local_addr().map_err(|error| error.to_string())?.port());
        let mut took: Pair<Vec<f64>> = Default::default();
        self.registrar.serve(Duration::from_millis(500));
        for _ in 0..self.amount.calls {
            for ((program, user), took) in running.iter().zip(&mut took) {
                let call = self
                    .registrar
                    .call(user, &offer)
                    .map_err(|error| format!("{user}: {error}:\n{}", program.output()))?;
                took.push(call.took.as_secs_f64() * 1e3);
                self.registrar.serve(Duration::from_millis(5));
                self.registrar.hang_up(&call)?;
                self.registrar.serve(Duration::from_millis(5));
            }
        }
        running.into_iter().for_each(|(program, _)| self.end(program));
        Ok(took)
    }

    /// Memory and milliseconds on a processor per second of programs that are registered and have nothing to do.
    pub fn idle(&mut self) -> Result<Pair<(Memory, f64)>, String> {
        let wav = self.narrow_wav(2)?;
        let running = [self.run(BOTH[0], "idle", "PCMA", &wav)?, self.run(BOTH[1], "idle", "PCMA", &wav)?];
        let pids = [running[0].0.pid(), running[1].0.pid()];
        self.registrar.serve(Duration::from_secs(3));
        let before = [usage::processor_ns(pids[0])?, usage::processor_ns(pids[1])?];
        let begun = Instant::now();
        self.registrar.serve(Duration::from_secs(self.amount.idle));
        let seconds = begun.elapsed().as_secs_f64();
        let mut found = Vec::new();
        for (pid, before) in pids.into_iter().zip(before) {
            let cpu = (usage::processor_ns(pid)?.saturating_sub(before)) as f64 / 1e6 / seconds;
            found.push((usage::memory(pid)?, cpu));
        }
        running.into_iter().for_each(|(program, _)| self.end(program));
        found.try_into().map_err(|_| "two programs were measured".into())
    }

    fn dial(&mut self, user: &str, codec: &str, calls: usize) -> Result<(Vec<Call>, Vec<Seat>), String> {
        let (mut standing, mut seats) = (Vec::new(), Vec::new());
        for _ in 0..calls {
            let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
            socket.set_nonblocking(true).map_err(|error| error.to_string())?;
            let port = socket.local_addr().map_err(|error| error.to_string())?.port();
            let call = self.registrar.call(user, &sound::offer(codec, port))?;
            seats.push(Seat { socket, to: call.media });
            standing.push(call);
            // Nobody is called by so many at the same instant.
            self.registrar.serve(Duration::from_millis(10));
        }
        Ok((standing, seats))
    }

    /// Calls at once in one process, sound both ways. The tallies are those of the calls.
    fn talk(
        &mut self,
        (program, user): &(Program, String),
        codec: &str,
        calls: usize,
        payloads: &Arc<Payloads>,
    ) -> Result<(Talk, Vec<Tally>), String> {
        let pid = program.pid();
        let idle = (usage::memory(pid)?, usage::threads(pid));
        let (standing, seats) = self
            .dial(user, codec, calls)
            .map_err(|error| format!("{user}: {error}:\n{}", program.output()))?;
        let begun = Instant::now();
        let streams = Streams::start(seats, Arc::clone(payloads), calls == 1);
        self.registrar.serve(Duration::from_secs(2));
        let before = (Instant::now(), usage::processor_ns(pid)?);
        self.registrar.serve(Duration::from_secs(self.amount.talk));
        let used = usage::processor_ns(pid)?.saturating_sub(before.1) as f64 / 1e6;
        let cpu = used / before.0.elapsed().as_secs_f64();
        let (memory, threads) = (usage::memory(pid)?, usage::threads(pid));
        let expected = begun.elapsed().as_secs_f64() * 50.0 * calls as f64;
        let tallies = streams.finish();
        for call in &standing {
            self.registrar.hang_up(call)?;
        }
        let received: u64 = tallies.iter().map(|tally| tally.received).sum();
        let talk = Talk {
            cpu,
            grown: memory.resident.saturating_sub(idle.0.resident) as f64,
            threads: [idle.1, threads],
            returned: received as f64 / expected,
        };
        Ok((talk, tallies))
    }

    /// Many calls with G.711: the middle of the rounds for the time, the first round for memory.
    pub fn many(&mut self) -> Result<Pair<Talk>, String> {
        let wav = self.narrow_wav(self.amount.talk as u32 + 10)?;
        let payloads = Arc::new(sound::payloads("PCMA", 11)?);
        let running = [self.run(BOTH[0], "many", "PCMA", &wav)?, self.run(BOTH[1], "many", "PCMA", &wav)?];
        self.registrar.serve(Duration::from_secs(1));
        let mut rounds: Pair<Vec<Talk>> = Default::default();
        for _ in 0..self.amount.rounds {
            for (running, rounds) in running.iter().zip(&mut rounds) {
                rounds.push(self.talk(running, "PCMA", MANY, &payloads)?.0);
                self.registrar.serve(Duration::from_millis(500));
            }
        }
        running.into_iter().for_each(|(program, _)| self.end(program));
        let middle = |rounds: Vec<Talk>| {
            let cpu = median(&rounds.iter().map(|talk| talk.cpu).collect::<Vec<_>>());
            Talk { cpu, ..rounds.first().copied().unwrap_or_default() }
        };
        Ok(rounds.map(middle))
    }

    /// One call with Opus: what it costs, the bit rate it really has and the segmental signal-to-noise ratio in dB.
    pub fn opus(&mut self) -> Result<Pair<(f64, f64, f64)>, String> {
        let seconds = self.amount.talk as u32 + 10;
        let wav = self.workshop.folder.join("speech-48000.wav");
        let said = sound::speech(9, WIDE, seconds);
        sound::write_wav(&wav, &said, WIDE, 48_000)?;
        let payloads = Arc::new(sound::payloads("opus", 11)?);
        let running = [self.run(BOTH[0], "opus", "opus", &wav)?, self.run(BOTH[1], "opus", "opus", &wav)?];
        self.registrar.serve(Duration::from_secs(1));
        let mut rounds: Pair<Vec<(f64, f64, f64)>> = Default::default();
        for _ in 0..self.amount.rounds {
            for (running, rounds) in running.iter().zip(&mut rounds) {
                let (talk, tallies) = self.talk(running, "opus", 1, &payloads)?;
                let heard = &tallies.first().ok_or("no call was made")?.payloads;
                let (likeness, rate) = sound::quality(&said, heard)?;
                rounds.push((talk.cpu, rate, likeness.segmental_snr_db.into()));
            }
        }
        running.into_iter().for_each(|(program, _)| self.end(program));
        Ok(rounds.map(|rounds| {
            let middle =
                |pick: fn(&(f64, f64, f64)) -> f64| median(&rounds.iter().map(pick).collect::<Vec<_>>());
            (middle(|row| row.0), middle(|row| row.1), middle(|row| row.2))
        }))
    }

    /// Instructions in user space per second of a G.711 call. What starting, dialling and ending cost is the same in a
    /// short and a long run, and cancels. What comes late costs more and nothing costs less, so of each the least of some rounds
    /// is nearest to what a call takes: this machine has slow hours.
    pub fn instructions(&mut self) -> Result<Pair<f64>, String> {
        let _awake = Awake::keep()?;
        let longest = self.amount.counted[1];
        let wav = self.narrow_wav(longest as u32 + 30)?;
        let payloads = Arc::new(sound::payloads("PCMA", 11)?);
        // A run: how long the calls lasted, and what was counted.
        let mut least: Pair<[(f64, f64); 2]> = [[(0.0, f64::MAX); 2]; 2];
        for round in 0..self.amount.rounds {
            for (make, least) in BOTH.into_iter().zip(&mut least) {
                for (at, least) in least.iter_mut().enumerate() {
                    let user = Self::user(make, &format!("count{round}{at}"));
                    let seconds = self.amount.counted[at];
                    let run = self.counted(make, &user, &wav, &payloads, seconds)?;
                    if run.1 / run.0 < least.1 / least.0.max(f64::MIN_POSITIVE) {
                        *least = run;
                    }
                }
            }
        }
        Ok(least.map(|[short, long]| (long.1 - short.1) / (long.0 - short.0) / COUNTED as f64))
    }

    /// One run under callgrind with calls for so long: how many seconds they lasted, and all instructions.
    fn counted(
        &mut self,
        make: Make,
        user: &str,
        wav: &Path,
        payloads: &Arc<Payloads>,
        seconds: u64,
    ) -> Result<(f64, f64), String> {
        let task = Task::new(user, &self.registrar, "PCMA", wav);
        let plain = self.workshop.prepare(make, &task)?;
        let mut command = Command::new("valgrind");
        command.arg("--tool=callgrind");
        let out = self.workshop.folder.join(user).join("callgrind");
        command.arg(format!("--callgrind-out-file={}", out.display()));
        command.arg(plain.get_program()).args(plain.get_args());
        let (mut program, _) = self.workshop.start(user, &mut command)?;
        self.registrar.registered(user).map_err(|error| format!("{error}:\n{}", program.output()))?;
        self.registrar.serve(Duration::from_secs(2));
        let (standing, seats) = self.dial(user, "PCMA", COUNTED)?;
        let streams = Streams::start(seats, Arc::clone(payloads), false);
        let begun = Instant::now();
        self.registrar.serve(Duration::from_secs(seconds));
        let tallies = streams.finish();
        let lasted = begun.elapsed().as_secs_f64();
        for call in &standing {
            self.registrar.hang_up(call)?;
        }
        program.ask_to_end();
        let end = Instant::now() + Duration::from_secs(30);
        while !program.ended() && Instant::now() < end {
            self.registrar.serve(Duration::from_millis(20));
        }
        let received: u64 = tallies.iter().map(|tally| tally.received).sum();
        let share = received as f64 / (lasted * 50.0 * COUNTED as f64);
        if share < 0.9 {
            return Err(format!(
                "{user}: only {:.0} % of the packets came back under callgrind",
                share * 1e2
            ));
        }
        Ok((lasted, collected(&program.output())?))
    }
}

/// The instructions that callgrind tells at its end.
fn collected(output: &str) -> Result<f64, String> {
    let number = output.lines().rev().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    number.ok_or_else(|| format!("callgrind did not tell what it collected:\n{output}"))
}
