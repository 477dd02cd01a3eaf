//! Rows of the journal as CSV, in columns of our own and in those of the call detail records that other programs read.
//!
//! | shape | what reads it |
//! |---|---|
//! | `csv` | spreadsheets: a head, commas (RFC 4180), seconds with decimals, UTC |
//! | `asterisk` | what reads `Master.csv` of Asterisk's `cdr_csv`: 18 columns without a head, local time, whole seconds |
//! | `freeswitch` | what reads the `example` template of FreeSWITCH's `mod_cdr_csv`: 15 columns without a head, local time |
//! | `rostelecom` | what reads the call history of Rostelecom's virtual PBX: 16 columns, semicolons, Unix time |
//! | `telphin` | what reads `call_history` of Telphin: its fields as columns with a head, UTC |
//!
//! Asterisk and FreeSWITCH know contexts, applications and account codes; a phone does not, and leaves them empty.

use crate::config::zone::Zone;
use crate::events::cloud_event::rfc3339;
use crate::events::store::Entry;
use crate::events::upstream::facts::{Facts, number};
use crate::events::upstream::rostelecom::call_info::{CallInfo, Place};
use crate::events::upstream::webitel::hangup_cause;
use crate::events::{CallResult, Direction, EndedBy, Party};
use crate::now::CLOCK_WAS_SET;

/// A leg with what is shown beside it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The leg.
    pub entry: &'a Entry,
    /// The call that it is a part of, where that is told as a whole.
    pub call: Option<&'a CallInfo>,
    /// A path that opens its recording.
    pub recording_link: Option<&'a str>,
    /// Whose local time it is.
    pub zone: &'a Zone,
}

/// A form of CSV.
#[derive(Debug)]
pub struct Shape {
    /// How it is asked for.
    pub name: &'static str,
    head: bool,
    /// What parts two cells.
    separator: char,
    /// Whether texts stand in quotes in any case.
    quotes: bool,
    columns: &'static [Column],
}

type Column = (&'static str, fn(&Row<'_>) -> Cell);

enum Cell {
    Text(String),
    /// What never is in quotes.
    Number(u64),
}

/// All of them.
pub const SHAPES: &[Shape] = &[
    Shape { name: "csv", head: true, separator: ',', quotes: false, columns: OWN },
    Shape { name: "asterisk", head: false, separator: ',', quotes: true, columns: ASTERISK },
    Shape { name: "freeswitch", head: false, separator: ',', quotes: true, columns: FREESWITCH },
    Shape { name: "rostelecom", head: true, separator: ';', quotes: false, columns: ROSTELECOM },
    Shape { name: "telphin", head: true, separator: ',', quotes: false, columns: TELPHIN },
];

const OWN: &[Column] = &[
    ("started", |row| text(&rfc3339(row.entry.started_utc_us))),
    ("call_id", |row| text(&row.entry.call_id)),
    ("line", |row| text(&row.entry.leg.line)),
    ("direction", |row| text(row.entry.leg.direction.as_str())),
    ("caller", |row| dialled(&row.entry.leg.caller)),
    ("caller_name", |row| maybe(row.entry.leg.caller.name.as_deref())),
    ("called", |row| dialled(&row.entry.leg.called)),
    ("called_name", |row| maybe(row.entry.leg.called.name.as_deref())),
    ("result", |row| maybe(row.entry.result.map(CallResult::as_str))),
    ("ring_s", |row| decimal(row.entry.ring_us)),
    ("talk_s", |row| decimal(row.entry.talk_us)),
    ("status", |row| maybe(row.entry.cause.status.map(|it| it.to_string()).as_deref())),
    ("q850", |row| maybe(row.entry.cause.q850.map(|it| it.to_string()).as_deref())),
    ("cause", |row| maybe(row.entry.cause.text.as_deref())),
    ("codec", |row| maybe(row.entry.quality.as_ref().map(|it| it.codec.as_str()))),
    ("mos", |row| {
        maybe(row.entry.quality.as_ref().and_then(|it| Some(format!("{:.2}", it.mos?))).as_deref())
    }),
    ("recording_id", |row| maybe(row.entry.recording_id.as_deref())),
    ("did", |row| maybe(row.entry.leg.did.as_ref().map(|it| it.dialled.as_str()))),
    ("recording_link", |row| maybe(row.recording_link)),
    ("vote", |row| maybe(row.entry.vote.map(|it| it.to_string()).as_deref())),
];

const ASTERISK: &[Column] = &[
    ("accountcode", |_| maybe(None)),
    ("src", |row| maybe(number(&row.entry.leg.caller))),
    ("dst", |row| maybe(number(&row.entry.leg.called))),
    ("dcontext", |_| maybe(None)),
    ("clid", |row| {
        let caller = &row.entry.leg.caller;
        let number = number(caller).unwrap_or_default();
        match &caller.name {
            Some(name) => text(&format!("\"{name}\" <{number}>")),
            None => text(number),
        }
    }),
    ("channel", |row| text(&format!("SIP/{}-{}", row.entry.leg.line, row.entry.leg.leg_id))),
    ("dstchannel", |_| maybe(None)),
    ("lastapp", |_| maybe(None)),
    ("lastdata", |_| maybe(None)),
    ("start", |row| local(row, Some(row.entry.started_utc_us))),
    ("answer", |row| local(row, row.entry.answered_utc_us)),
    ("end", |row| local(row, row.entry.ended_utc_us)),
    ("duration", |row| Cell::Number(row.entry.total_us / 1_000_000)),
    ("billsec", |row| Cell::Number(row.entry.talk_us / 1_000_000)),
    ("disposition", |row| maybe(row.entry.result.map(disposition))),
    ("amaflags", |_| text("DOCUMENTATION")),
    ("uniqueid", |row| text(&row.entry.leg.leg_id)),
    ("userfield", |row| maybe(row.entry.recording_id.as_deref())),
];

const FREESWITCH: &[Column] = &[
    ("caller_id_name", |row| maybe(row.entry.leg.caller.name.as_deref())),
    ("caller_id_number", |row| maybe(number(&row.entry.leg.caller))),
    ("destination_number", |row| maybe(number(&row.entry.leg.called))),
    ("context", |_| maybe(None)),
    ("start_stamp", |row| local(row, Some(row.entry.started_utc_us))),
    ("answer_stamp", |row| local(row, row.entry.answered_utc_us)),
    ("end_stamp", |row| local(row, row.entry.ended_utc_us)),
    ("duration", |row| text(&(row.entry.total_us / 1_000_000).to_string())),
    ("billsec", |row| text(&(row.entry.talk_us / 1_000_000).to_string())),
    ("hangup_cause", |row| maybe(freeswitch_cause(row))),
    ("uuid", |row| text(&row.entry.leg.leg_id)),
    ("bleg_uuid", |_| maybe(None)),
    ("accountcode", |_| maybe(None)),
    ("read_codec", |row| maybe(row.entry.quality.as_ref().map(|it| it.codec.as_str()))),
    ("write_codec", |row| maybe(row.entry.quality.as_ref().map(|it| it.codec.as_str()))),
];

const ROSTELECOM: &[Column] = &[
    ("session_id", |row| text(&row.entry.call_id)),
    ("call_type", |row| info(row, |it| it.call_type.to_string())),
    ("direction", |row| info(row, |it| it.direction.to_string())),
    ("state", |row| info(row, |it| it.state.to_string())),
    ("orig_number", |row| info(row, |it| it.orig_number)),
    ("orig_pin", |row| info(row, |it| it.orig_pin.unwrap_or_default())),
    ("dest_number", |row| info(row, |it| it.dest_number)),
    ("answering_sipuri", |row| info(row, |it| it.answering_sipuri.unwrap_or_default())),
    ("answering_pin", |row| info(row, |it| it.answering_pin.unwrap_or_default())),
    ("start_call_date", |row| info(row, |it| it.start_call_date)),
    ("duration", |row| info(row, |it| it.duration.to_string())),
    ("is_voicemail", |row| info(row, |it| it.is_voicemail.to_string())),
    ("is_record", |row| info(row, |it| it.is_record.to_string())),
    ("is_fax", |row| info(row, |it| it.is_fax.to_string())),
    ("status_code", |row| info(row, |it| it.status_code)),
    ("status_string", |row| info(row, |it| it.status_string)),
];

const TELPHIN: &[Column] = &[
    ("call_uuid", |row| text(&row.entry.call_id)),
    ("flow", |row| text(row.entry.leg.direction.as_str())),
    ("init_time_gmt", |row| gmt(Some(row.entry.started_utc_us))),
    ("start_time_gmt", |row| gmt(Some(row.entry.started_utc_us))),
    ("bridged_time_gmt", |row| gmt(row.entry.answered_utc_us)),
    ("hangup_time_gmt", |row| gmt(row.entry.ended_utc_us)),
    ("duration", |row| Cell::Number(row.entry.total_us / 1_000_000)),
    ("bridged_duration", |row| Cell::Number(row.entry.talk_us / 1_000_000)),
    ("extension_name", |row| text(&row.entry.leg.line)),
    ("from_username", |row| maybe(number(&row.entry.leg.caller))),
    ("from_screen_name", |row| maybe(row.entry.leg.caller.name.as_deref())),
    ("to_username", |row| maybe(number(&row.entry.leg.called))),
    ("did_number", |row| maybe(row.entry.leg.did.as_ref().map(|it| it.dialled.as_str()))),
    ("result", |row| maybe(row.entry.result.map(telphin_result))),
    ("hangup_cause", |row| maybe(freeswitch_cause(row))),
    ("hangup_disposition", |row| maybe(telphin_disposition(row.entry))),
    ("record_uuid", |row| maybe(row.entry.recording_id.as_deref())),
];

impl Shape {
    /// The shape of this name.
    pub fn named(name: &str) -> Option<&'static Shape> {
        SHAPES.iter().find(|shape| shape.name == name)
    }

    /// The head, if there is one, and rows, each ended by CR and LF.
    pub fn render<'a>(&self, rows: impl Iterator<Item = Row<'a>>) -> String {
        self.head() + &self.rows(rows)
    }

    /// The names of the columns; nothing where there is no head.
    pub fn head(&self) -> String {
        let names = self.columns.iter().map(|(name, _)| (*name).to_owned());
        if self.head { self.line(names.collect()) } else { String::new() }
    }

    /// Rows alone.
    pub fn rows<'a>(&self, rows: impl Iterator<Item = Row<'a>>) -> String {
        let cells = |row: Row<'a>| self.columns.iter().map(|(_, cell)| self.written(&cell(&row))).collect();
        rows.map(|row| self.line(cells(row))).collect()
    }

    fn line(&self, cells: Vec<String>) -> String {
        cells.join(&self.separator.to_string()) + "\r\n"
    }

    /// A cell. What a stranger names itself must not become a formula in a spreadsheet; a telephone number stays one.
    fn written(&self, cell: &Cell) -> String {
        let cell = match cell {
            Cell::Number(number) => return number.to_string(),
            Cell::Text(text) => text,
        };
        let number = cell.strip_prefix('+').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
        let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !number;
        let cell = if formula { format!("'{cell}") } else { cell.clone() };
        if self.quotes || cell.contains([self.separator, '"', '\r', '\n']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    }
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn maybe(value: Option<&str>) -> Cell {
    text(value.unwrap_or_default())
}

fn dialled(party: &Party) -> Cell {
    maybe(party.number.as_ref().map(|number| number.dialled.as_str()))
}

fn decimal(us: u64) -> Cell {
    text(&format!("{:.3}", us as f64 / 1e6))
}

/// A moment in local time; empty where it is not known.
fn local(row: &Row<'_>, utc_us: Option<i64>) -> Cell {
    let known = utc_us.filter(|us| *us >= CLOCK_WAS_SET);
    maybe(known.map(|us| row.zone.civil(us).strftime("%Y-%m-%d %H:%M:%S").to_string()).as_deref())
}

/// A moment in UTC; empty where it is not known.
fn gmt(utc_us: Option<i64>) -> Cell {
    let known = utc_us.filter(|us| *us >= CLOCK_WAS_SET).map(rfc3339);
    let day_and_time = known.as_deref().and_then(|it| Some((it.get(..10)?, it.get(11..19)?)));
    maybe(day_and_time.map(|(day, time)| format!("{day} {time}")).as_deref())
}

/// Something that Rostelecom tells of a call; without one, of a leg as a call of its own.
fn info(row: &Row<'_>, what: fn(CallInfo) -> String) -> Cell {
    let leg = || CallInfo::of(std::slice::from_ref(row.entry), Place::default());
    maybe(row.call.cloned().or_else(leg).map(what).as_deref())
}

/// What FreeSWITCH calls the cause.
fn freeswitch_cause(row: &Row<'_>) -> Option<&'static str> {
    hangup_cause(row.entry.result?, &Facts::of_entry(row.entry))?.0
}

/// What Telphin calls a result.
fn telphin_result(result: CallResult) -> &'static str {
    match result {
        CallResult::Answered | CallResult::MediaLost => "answered",
        CallResult::Busy => "busy",
        CallResult::NoAnswer | CallResult::Cancelled => "not answered",
        CallResult::AnsweredElsewhere => "answered elsewhere",
        CallResult::Rejected | CallResult::Barred => "rejected",
        CallResult::InvalidNumber
        | CallResult::Unreachable
        | CallResult::Congestion
        | CallResult::NoFunds
        | CallResult::Failed => "failed",
    }
}

/// What Telphin calls the way in which a leg ended; `None` where nobody knows who ended it.
fn telphin_disposition(entry: &Entry) -> Option<&'static str> {
    let by_caller = match entry.cause.by? {
        EndedBy::Local => entry.leg.direction == Direction::Out,
        EndedBy::Remote => entry.leg.direction == Direction::In,
        EndedBy::Network => return Some("internal_cancel"),
    };
    Some(match (entry.answered_utc_us.is_some(), by_caller) {
        (true, true) => "caller_bye",
        (true, false) => "callee_bye",
        (false, true) => "caller_cancel",
        (false, false) => "callee_refuse",
    })
}

/// What Asterisk calls a result.
fn disposition(result: CallResult) -> &'static str {
    match result {
        CallResult::Answered | CallResult::MediaLost => "ANSWERED",
        CallResult::Busy | CallResult::Rejected => "BUSY",
        CallResult::NoAnswer | CallResult::Cancelled | CallResult::AnsweredElsewhere => "NO ANSWER",
        CallResult::Congestion => "CONGESTION",
        CallResult::Barred
        | CallResult::InvalidNumber
        | CallResult::Unreachable
        | CallResult::NoFunds
        | CallResult::Failed => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::upstream::samples::{TODAY, leg};
    use crate::events::{Cause, Direction};

    fn entry() -> Entry {
        let mut entry = Entry::begun("c1", leg(Direction::In), TODAY);
        entry.result = Some(CallResult::Answered);
        entry.cause = Cause::remote(200, "bye, \"friend\"");
        entry.answered_utc_us = Some(TODAY + 4_000_000);
        entry.ended_utc_us = Some(TODAY + 10_900_000);
        (entry.total_us, entry.ring_us, entry.talk_us) = (10_900_000, 4_000_000, 6_900_000);
        entry.recording_id = Some("c1-1".into());
        entry.vote = Some(4);
        entry
    }

    fn rendered(shape: &str, entry: &Entry) -> String {
        let zone = Zone::default();
        let row = Row { entry, call: None, recording_link: Some("/r?a=1"), zone: &zone };
        Shape::named(shape).expect("a shape").render(std::iter::once(row))
    }

    #[test]
    fn our_own_columns_have_a_head() {
        let csv = rendered("csv", &entry());
        assert_eq!(
            csv,
            "started,call_id,line,direction,caller,caller_name,called,called_name,result,ring_s,talk_s,status,q850,\
             cause,codec,mos,recording_id,did,recording_link,vote\r\n\
             2026-11-20T00:00:00.000000Z,c1,office,in,'+7 495 123-45-67,Anna & Co,101,Reception,answered,4.000,6.900,200,,\
             \"bye, \"\"friend\"\"\",,,c1-1,+74957654321,/r?a=1,4\r\n"
        );
    }

    #[test]
    fn the_columns_of_asterisk_are_those_of_its_master_csv() {
        assert_eq!(
            rendered("asterisk", &entry()),
            "\"\",\"+74951234567\",\"101\",\"\",\"\"\"Anna & Co\"\" <+74951234567>\",\"SIP/office-c1-1\",\"\",\"\",\"\",\
             \"2026-11-20 00:00:00\",\"2026-11-20 00:00:04\",\"2026-11-20 00:00:10\",10,6,\"ANSWERED\",\"DOCUMENTATION\",\
             \"c1-1\",\"c1-1\"\r\n"
        );
        let mut missed = entry();
        (missed.result, missed.answered_utc_us) = (Some(CallResult::Cancelled), None);
        let row = rendered("asterisk", &missed);
        assert!(
            row.contains(",\"2026-11-20 00:00:00\",\"\",\"2026-11-20 00:00:10\",10,6,\"NO ANSWER\","),
            "{row}"
        );
    }

    #[test]
    fn the_columns_of_freeswitch_are_those_of_its_example() {
        assert_eq!(
            rendered("freeswitch", &entry()),
            "\"Anna & Co\",\"+74951234567\",\"101\",\"\",\"2026-11-20 00:00:00\",\"2026-11-20 00:00:04\",\
             \"2026-11-20 00:00:10\",\"10\",\"6\",\"NORMAL_CLEARING\",\"c1-1\",\"\",\"\",\"\",\"\"\r\n"
        );
    }

    #[test]
    fn the_columns_of_rostelecom_are_the_sixteen_of_its_history() {
        let rows = rendered("rostelecom", &entry());
        assert_eq!(
            rows,
            "session_id;call_type;direction;state;orig_number;orig_pin;dest_number;answering_sipuri;answering_pin;\
             start_call_date;duration;is_voicemail;is_record;is_fax;status_code;status_string\r\n\
             c1;1;1;1;sip:74951234567@pbx.example;;sip:74957654321@pbx.example;101@pbx.example;101;1795132800;10;\
             false;true;false;0;\r\n"
        );
        let mut missed = entry();
        (missed.result, missed.answered_utc_us) = (Some(CallResult::Rejected), None);
        missed.cause = Cause::remote(603, "no; \"never\"");
        let row = rendered("rostelecom", &missed);
        assert!(row.ends_with(";;;1795132800;0;false;true;false;603;\"no; \"\"never\"\"\"\r\n"), "{row}");
    }

    #[test]
    fn the_columns_of_telphin_are_the_fields_of_its_call_history() {
        let rows = rendered("telphin", &entry());
        assert_eq!(
            rows,
            "call_uuid,flow,init_time_gmt,start_time_gmt,bridged_time_gmt,hangup_time_gmt,duration,bridged_duration,\
             extension_name,from_username,from_screen_name,to_username,did_number,result,hangup_cause,\
             hangup_disposition,record_uuid\r\n\
             c1,in,2026-11-20 00:00:00,2026-11-20 00:00:00,2026-11-20 00:00:04,2026-11-20 00:00:10,10,6,\
             office,+74951234567,Anna & Co,101,+74957654321,answered,NORMAL_CLEARING,caller_bye,c1-1\r\n"
        );
        let mut missed = entry();
        (missed.result, missed.answered_utc_us, missed.talk_us) = (Some(CallResult::Cancelled), None, 0);
        let row = rendered("telphin", &missed);
        assert!(row.contains(",2026-11-20 00:00:00,,2026-11-20 00:00:10,10,0,"), "{row}");
        assert!(row.contains(",not answered,ORIGINATOR_CANCEL,caller_cancel,"), "{row}");
    }

    #[test]
    fn a_cell_is_never_a_formula_and_never_breaks_a_row() {
        let quoted = |cell: &str| Shape::named("csv").expect("a shape").written(&text(cell));
        assert_eq!(quoted("+74951234567"), "+74951234567");
        assert_eq!(quoted("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        assert_eq!(quoted("+1+cmd|' /C calc'!A0"), "'+1+cmd|' /C calc'!A0");
        assert_eq!(quoted("a,b\r\nc"), "\"a,b\r\nc\"");
    }
}
