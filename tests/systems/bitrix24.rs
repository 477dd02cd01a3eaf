//! A Bitrix24 portal and its sign-in server, as their own documentation has them answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::receiver::{Got, Reply, pairs};

/// A call that the portal has registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// By what a repetition is known: number, type, user, line and EXTERNAL_CALL_ID.
    pub key: Vec<Value>,
    pub finished: Option<Value>,
    pub file: Option<String>,
}

/// Everything that the portal and the sign-in server know.
#[derive(Default)]
pub struct Portal {
    pub refresh: String,
    pub access: String,
    pub renewals: usize,
    pub calls: BTreeMap<String, Registered>,
    pub methods: Vec<String>,
    /// What goes wrong, by method: its first request is done, and the connection is closed without an answer.
    pub mute_once: Option<&'static str>,
    /// How long each request takes.
    pub pause: Duration,
    /// Requests in which what was said was wrong.
    pub strange: Vec<String>,
}

fn json_reply(status: u16, said: &Value) -> Reply {
    Reply::Full(status, "Content-Type: application/json\r\n", said.to_string().into_bytes())
}

fn error(status: u16, code: &str, text: &str) -> Reply {
    json_reply(status, &json!({ "error": code, "error_description": text }))
}

impl Portal {
    /// One whose application has just been installed.
    pub fn new() -> Portal {
        Portal { refresh: "planted-r0".into(), ..Portal::default() }
    }

    /// The keys of an upstream that enters it by a sign-in server at this address.
    pub fn keys(at: SocketAddr) -> String {
        format!(
            "[upstream.bitrix24]\nclient_id = \"local.1\"\nclient_secret = \"planted-secret\"\n\
             refresh_token = \"planted-r0\"\nsign_in = \"http://{at}/oauth/token/\"\n"
        )
    }

    /// What comes of a request, whatever it is for.
    pub fn answer(&mut self, got: &Got) -> Reply {
        assert_eq!(got.method, "POST");
        std::thread::sleep(self.pause);
        if got.target == "/oauth/token/" {
            return self.renew(&pairs(&got.text));
        }
        if got.target.starts_with("/rest/upload.json?token=") {
            return self.upload(got);
        }
        let method = got.target.strip_prefix("/rest/").expect("a method").to_owned();
        let body: Value = serde_json::from_str(&got.text).expect("JSON");
        if body["auth"] != *self.access {
            return error(401, "expired_token", "The access token provided has expired");
        }
        let short = method.trim_start_matches("telephony.externalCall.").to_owned();
        self.methods.push(short.clone());
        let reply = self.call(&short, &body, got);
        if self.mute_once.take_if(|it| *it == short).is_some() { Reply::Close } else { reply }
    }

    /// A refresh token is good for one renewal.
    fn renew(&mut self, form: &BTreeMap<String, String>) -> Reply {
        self.methods.push("renewal".into());
        let right = form["grant_type"] == "refresh_token"
            && (form["client_id"].as_str(), form["client_secret"].as_str()) == ("local.1", "planted-secret");
        if !right || form["refresh_token"] != self.refresh {
            return error(400, "invalid_grant", "");
        }
        self.renewals += 1;
        self.refresh = format!("planted-r{}", self.renewals);
        self.access = format!("planted-a{}", self.renewals);
        let at = json!({ "access_token": self.access, "refresh_token": self.refresh, "expires_in": 3600,
            "domain": "oauth.bitrix.info", "scope": "app", "status": "L", "user_id": 1 });
        if self.mute_once.take_if(|it| *it == "renewal").is_some() {
            return Reply::Close;
        }
        json_reply(200, &at)
    }

    fn call(&mut self, method: &str, body: &Value, got: &Got) -> Reply {
        let done = |result: Value| json_reply(200, &json!({ "result": result, "time": {} }));
        let named = body["CALL_ID"].as_str().map(str::to_owned);
        match method {
            "app.info" => done(json!({ "ID": 1 })),
            "searchCrmEntities" => done(match body["PHONE_NUMBER"].as_str().expect("a number") {
                "74950000001" => json!([
                    { "CRM_ENTITY_TYPE": "CONTACT", "CRM_ENTITY_ID": "5", "ASSIGNED_BY_ID": "1", "NAME": "Anna",
                      "ASSIGNED_BY": { "ID": "1", "TIMEMAN_STATUS": "OPENED", "USER_PHONE_INNER": "703" } },
                    { "CRM_ENTITY_TYPE": "LEAD", "CRM_ENTITY_ID": "9", "ASSIGNED_BY_ID": "2", "NAME": "Boris" }
                ]),
                _ => json!([]),
            }),
            "register" => {
                let user =
                    if body["USER_ID"].is_null() { &body["USER_PHONE_INNER"] } else { &body["USER_ID"] };
                if user.is_null() || body["PHONE_NUMBER"].as_str().is_none_or(str::is_empty) {
                    return error(400, "ERROR_CORE", "USER_ID or USER_PHONE_INNER should be set");
                }
                let key = ["PHONE_NUMBER", "TYPE", "LINE_NUMBER", "EXTERNAL_CALL_ID"]
                    .map(|name| body[name].clone());
                let key = [&key[..], std::slice::from_ref(user)].concat();
                let known = self.calls.iter().find(|(_, call)| call.key == key && call.finished.is_none());
                let id = match known {
                    Some((id, _)) => id.clone(),
                    None => {
                        let id = format!("externalCall.{}", self.calls.len() + 1);
                        self.calls.insert(id.clone(), Registered { key, finished: None, file: None });
                        id
                    }
                };
                done(json!({ "CALL_ID": id, "CRM_CREATED_LEAD": null, "CRM_ENTITY_TYPE": "CONTACT" }))
            }
            "show" | "hide" => done(json!(true)),
            "finish" => match named.and_then(|id| self.calls.get_mut(&id)) {
                Some(call) if call.finished.is_none() => {
                    call.finished = Some(body.clone());
                    done(
                        json!({ "CALL_DURATION": body["DURATION"], "CALL_FAILED_CODE": body["STATUS_CODE"] }),
                    )
                }
                _ => error(
                    400,
                    "ERROR_CORE",
                    "Call is not found (call should be registered prior to finishing)",
                ),
            },
            "attachRecord" => {
                match named.filter(|id| self.calls.get(id).is_some_and(|it| it.finished.is_some())) {
                    Some(id) => {
                        let url = format!("http://{}/rest/upload.json?token={id}", got.field("host"));
                        done(json!({ "uploadUrl": url, "fieldName": "file" }))
                    }
                    None => error(
                        400,
                        "",
                        "Call is not found in the statistic table. It looks like it is not finished yet.",
                    ),
                }
            }
            other => {
                self.strange.push(other.to_owned());
                error(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
            }
        }
    }

    /// `multipart/form-data` as a web server reads it (RFC 7578): one field, whose name was said before.
    fn upload(&mut self, got: &Got) -> Reply {
        self.methods.push("upload".into());
        let boundary = got.content_type.strip_prefix("multipart/form-data; boundary=").expect("a boundary");
        let inside = got.text.strip_prefix(&format!("--{boundary}\r\n")).expect("a part");
        let inside = inside.strip_suffix(&format!("\r\n--{boundary}--\r\n")).expect("an end");
        let (head, content) = inside.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("name=\"file\"; filename=\"") && head.contains(".wav\""), "{head}");
        let id = got.target.split_once("token=").expect("a token").1;
        self.calls.get_mut(id).expect("a call").file = Some(content.to_owned());
        json_reply(200, &json!({ "result": { "FILE_ID": 9 } }))
    }
}
