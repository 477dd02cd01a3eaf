//! SIPp with scenarios of our own: a peer that does exactly what is written.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::netns::{Host, Lab};
use crate::process::{Process, within};

/// A running SIPp; it plays its scenario once.
pub struct Sipp {
    process: Process,
    messages: PathBuf,
    errors: PathBuf,
}

impl Sipp {
    /// Waits for a call at port 5060 of `host` and plays `scenario` (the text of an XML file).
    pub fn serve(lab: &Lab, host: &Host, name: &str, scenario: &str) -> Sipp {
        let sipp = Sipp::start(lab, host, name, scenario, &[]);
        within("SIPp listens", Duration::from_secs(5), || {
            host.run("ss", &["-lnu"]).contains(&format!("{}:5060", host.address)).then_some(())
        });
        sipp
    }

    /// Calls `target` (address:port) and plays `scenario`.
    pub fn call(lab: &Lab, host: &Host, name: &str, scenario: &str, target: &str, user: &str) -> Sipp {
        Sipp::start(lab, host, name, scenario, &["-s", user, target])
    }

    fn start(lab: &Lab, host: &Host, name: &str, scenario: &str, more: &[&str]) -> Sipp {
        let folder = lab.folder().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("scenario.xml");
        fs::write(&file, scenario).expect("a scenario");
        let (messages, errors) = (folder.join("messages"), folder.join("errors"));
        let path = |path: &PathBuf| path.to_str().expect("a path").to_owned();
        let (file, messages_path, errors_path) = (path(&file), path(&messages), path(&errors));
        let mut arguments = vec![
            "-sf",
            &file,
            "-i",
            &host.address,
            "-p",
            "5060",
            "-m",
            "1",
            "-nostdin",
            "-timeout",
            "40",
            "-timeout_error",
            "-trace_msg",
            "-message_file",
            &messages_path,
            "-trace_err",
            "-error_file",
            &errors_path,
        ];
        arguments.extend(more);
        let process = host.start(name, "sipp", &arguments);
        Sipp { process, messages, errors }
    }

    /// Waits for the end of the scenario; panics with what went differently when it was not played as written.
    #[track_caller]
    pub fn done(&mut self) {
        let code = self.process.wait(Duration::from_secs(50));
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        assert_eq!(
            code,
            Some(0),
            "the peer did not get what its scenario expects:\n{errors}\n{}",
            self.messages()
        );
    }

    /// Ends it before its scenario is played.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Every message it saw and sent.
    pub fn messages(&self) -> String {
        let bytes = fs::read(&self.messages).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The messages that it received and whose first line begins so.
    pub fn received(&self, start: &str) -> Vec<String> {
        let all = self.messages();
        all.split("-----------------------------------------------")
            .filter(|part| part.contains("message received"))
            .filter_map(|part| {
                part.split_once("bytes :").or(part.split_once("received")).map(|(_, text)| text)
            })
            .filter_map(|text| text.find(start).map(|at| text[at..].to_owned()))
            .collect()
    }
}
