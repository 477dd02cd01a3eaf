//! Threads that the phone can't do without.

/// Held by a thread for as long as it works. Should it end before it was told to, by a panic or because the system refuses what it
/// needs, the whole process ends, and whoever watches over it (systemd) starts another: a phone that looks registered, takes
/// calls and is deaf would be worse than one that is away for a second.
pub struct Vital {
    name: &'static str,
    in_order: bool,
}

impl Vital {
    /// The thread of this name begins.
    pub fn thread(name: &'static str) -> Vital {
        Vital { name, in_order: false }
    }

    /// It was told to end.
    pub fn ends(mut self) {
        self.in_order = true;
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !self.in_order {
            tracing::error!(
                "the thread `{}` has failed, without which nothing works: starting anew",
                self.name
            );
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// How the thread of the process that this test starts ends.
    const HOW: &str = "TIPRING_TEST_VITAL";

    fn work(how: &str) {
        let how = how.to_owned();
        let thread = std::thread::spawn(move || {
            let vital = Vital::thread("test");
            match how.as_str() {
                "panic" => panic!("as a test"),
                "return" => {}
                _ => vital.ends(),
            }
        });
        let _ = thread.join();
    }

    #[test]
    fn a_thread_that_fails_takes_the_process_along() {
        if let Ok(how) = std::env::var(HOW) {
            return work(&how);
        }
        for (how, aborted) in [("panic", true), ("return", true), ("in order", false)] {
            let own = std::env::current_exe().expect("this program");
            let ended = Command::new(own)
                .args(["--exact", "device::vital::tests::a_thread_that_fails_takes_the_process_along"])
                .env(HOW, how)
                .output()
                .expect("it starts");
            assert_eq!(ended.status.signal() == Some(nix::libc::SIGABRT), aborted, "{how}: {ended:?}");
            assert_eq!(ended.status.success(), !aborted, "{how}: {ended:?}");
        }
    }
}
