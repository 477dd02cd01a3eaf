//! As much of SIP as a registrar that is measured with needs: reading what two well-behaved phones send.

/// One request or answer.
pub struct Message {
    first: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Message {
    /// Reads a datagram; `None` when it is no SIP.
    pub fn read(bytes: &[u8]) -> Option<Message> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let first = lines.next()?.to_owned();
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (full_name(name.trim()), value.trim().to_owned()))
            .collect();
        Some(Message { first, fields, body: body.to_owned() })
    }

    /// The status of an answer; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        self.first.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request, or of the request that is answered.
    pub fn method(&self) -> &str {
        match self.status() {
            Some(_) => self.field("cseq").and_then(|cseq| cseq.split_whitespace().nth(1)).unwrap_or(""),
            None => self.first.split(' ').next().unwrap_or(""),
        }
    }

    /// The first value of a header field, by its lower-case name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The URI between angle brackets of such a field.
    pub fn uri(&self, name: &str) -> Option<&str> {
        let value = self.field(name)?;
        let inner = value.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        Some(inner.map_or(value, |(uri, _)| uri))
    }

    /// The user part of that URI.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.uri(name)?.split_once(':')?.1.split('@').next()
    }

    /// The body.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// An answer to this request. `fields` end with CR LF each.
    pub fn answer(&self, status: &str, fields: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for (name, value) in &self.fields {
            match name.as_str() {
                "to" if !value.contains(";tag=") => text.push_str(&format!("to: {value};tag=bench\r\n")),
                "via" | "from" | "to" | "call-id" | "cseq" => text.push_str(&format!("{name}: {value}\r\n")),
                _ => {}
            }
        }
        text + fields + "Content-Length: 0\r\n\r\n"
    }
}

fn full_name(name: &str) -> String {
    match name {
        "v" => "via".into(),
        "f" => "from".into(),
        "t" => "to".into(),
        "i" => "call-id".into(),
        "m" => "contact".into(),
        _ => name.to_ascii_lowercase(),
    }
}
