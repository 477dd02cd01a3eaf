//! A real baresip: answers by itself, sends a sine of 880 Hz and writes what it hears into a file.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::netns::{Host, Lab};
use crate::process::{Process, within};
use crate::sound::Wav;

/// A running phone of another make.
pub struct Baresip {
    host: Host,
    folder: PathBuf,
    process: Process,
}

impl Baresip {
    /// Registers `account` at `server`; `parameters` are those of a baresip account line, each with `;` before it. It
    /// refreshes each minute unless they say otherwise.
    pub fn start(lab: &Lab, host: &Host, account: &str, server: &str, parameters: &str) -> Baresip {
        let folder = lab.folder().join(format!("baresip{account}"));
        fs::create_dir_all(&folder).expect("a folder");
        let modules = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .unwrap_or("/usr/lib/baresip/modules");
        let config = format!(
            "sip_listen {address}:5060\nmodule_path {modules}\nmodule stdio.so\nmodule uuid.so\n\
             module g711.so\nmodule g722.so\nmodule opus.so\nmodule auconv.so\nmodule auresamp.so\nmodule ausine.so\n\
             module aufile.so\nmodule sndfile.so\nmodule srtp.so\nmodule dtls_srtp.so\n\
             module stun.so\nmodule turn.so\nmodule ice.so\nmodule ctrl_tcp.so\nmodule_app account.so\nmodule_app menu.so\n\
             audio_source ausine,880\naudio_player aufile,{folder}/unused.wav\naudio_alert aufile,/dev/null\n\
             ausrc_srate 48000\nauplay_srate 48000\nausrc_channels 2\nauplay_channels 2\n\
             audio_level no\njitter_buffer_type fixed\njitter_buffer_delay 2-8\n\
             snd_path {folder}\nctrl_tcp_listen 127.0.0.1:4444\nrtp_ports 20000-20100\n",
            address = host.address,
            folder = folder.display(),
        );
        fs::write(folder.join("config"), config).expect("a file");
        let refresh = if parameters.contains("regint=") { "" } else { ";regint=60" };
        fs::write(
            folder.join("accounts"),
            format!("<sip:{account}@{server}>;auth_pass=pw{account};answermode=auto{refresh}{parameters}\n"),
        )
        .expect("a file");
        fs::write(folder.join("contacts"), "").expect("a file");
        let process =
            host.start(&format!("baresip{account}"), "baresip", &["-f", folder.to_str().expect("a path")]);
        let host = host.clone();
        let mut baresip = Baresip { host, folder, process };
        within("baresip registers", Duration::from_secs(10), || {
            assert!(baresip.process.running(), "baresip ended:\n{}", baresip.process.tail());
            baresip.process.output().contains("200 OK").then_some(())
        });
        baresip
    }

    /// One command of its menu: `dial`, `hangup`, `hold`, `resume` …
    pub fn command(&self, command: &str, parameters: &str) -> Value {
        let text = json!({ "command": command, "params": parameters, "token": "lab" }).to_string();
        let mut stream = self.host.enter(|| TcpStream::connect("127.0.0.1:4444")).expect("its control port");
        stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a time limit");
        write!(stream, "{}:{text},", text.len()).expect("its control port");
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = stream.read(&mut buffer).expect("an answer");
            assert!(length > 0, "baresip closed its control port");
            bytes.extend(&buffer[..length]);
            // Netstrings: events come on the same connection.
            while let Some(colon) = bytes.iter().position(|b| *b == b':') {
                let Ok(size) = String::from_utf8_lossy(&bytes[..colon]).parse::<usize>() else { break };
                if bytes.len() < colon + 2 + size {
                    break;
                }
                let value: Value =
                    serde_json::from_slice(&bytes[colon + 1..colon + 1 + size]).unwrap_or(Value::Null);
                bytes.drain(..colon + 2 + size);
                if value["response"] == true {
                    return value;
                }
            }
        }
    }

    /// Waits until it has printed this.
    #[track_caller]
    pub fn says(&self, text: &str) {
        let what = format!("baresip says {text:?}");
        within(&what, Duration::from_secs(30), || self.process.output().contains(text).then_some(()));
    }

    /// What it has heard, of the last call; nothing if it had nothing to write.
    pub fn heard(&self) -> Wav {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.folder)
            .expect("its folder")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name().is_some_and(|name| {
                    let name = name.to_string_lossy();
                    name.starts_with("dump-") && name.ends_with("-dec.wav")
                })
            })
            .collect();
        files.sort();
        files.pop().map_or(Wav::new(8000, Vec::new()), |file| Wav::read(&file))
    }
}
