//! Numbers for Prometheus (text format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::App;
use super::access::Caller;
use super::answer::Answer;
use super::monitor::snapshot;
use super::upstreams::views;
use crate::events::upstream::desk::View;
use crate::phone::snapshot::Snapshot;

pub(super) async fn metrics(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let snapshot = snapshot(&app, &caller).await?;
    let mut page = Page::default();
    phone(&mut page, &snapshot);
    page.family("tipring_events_committed", "counter", "Number of the newest event that is kept.");
    page.sample(&[], app.office.archive.committed() as f64);
    page.family("tipring_api_requests_total", "counter", "Requests to the API.");
    page.sample(&[], app.answered.load(Ordering::Relaxed) as f64);
    page.family("tipring_api_refused_total", "counter", "Requests refused for want of rights.");
    page.sample(&[], app.refused.load(Ordering::Relaxed) as f64);
    upstreams(&mut page, &views(&app).await);
    process(&mut page);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.text).into_response())
}

fn phone(page: &mut Page, snapshot: &Snapshot) {
    page.family("tipring_info", "gauge", "The program and the device.");
    page.sample(
        &[("version", snapshot.version), ("serial", &snapshot.serial), ("name", &snapshot.name)],
        1.0,
    );
    page.family("tipring_degraded", "gauge", "How many parts do not work as configured.");
    page.sample(&[], snapshot.degraded.len() as f64);
    page.family("tipring_line_registered", "gauge", "1 while the line is registered.");
    for line in &snapshot.lines {
        let registered = if line.state == "registered" { 1.0 } else { 0.0 };
        page.sample(&[("line", &line.name), ("state", line.state)], registered);
    }
    page.family("tipring_line_flow_registered", "gauge", "1 while the flow of the line is registered.");
    for line in &snapshot.lines {
        for flow in &line.flows {
            let registered = if flow.state == "registered" { 1.0 } else { 0.0 };
            page.sample(&[("line", &line.name), ("flow", &flow.number.to_string())], registered);
        }
    }
    page.family("tipring_line_dnd", "gauge", "1 while the line refuses calls.");
    for line in &snapshot.lines {
        page.sample(&[("line", &line.name)], if line.dnd { 1.0 } else { 0.0 });
    }
    page.family("tipring_calls", "gauge", "Calls that are going on.");
    for line in &snapshot.lines {
        for direction in ["in", "out"] {
            let calls = snapshot.calls.iter().filter(|it| it.line == line.name && it.direction == direction);
            page.sample(&[("line", &line.name), ("direction", direction)], calls.count() as f64);
        }
    }
    page.family("tipring_call_mos_worst", "gauge", "The lowest opinion score among the calls of a line.");
    for line in &snapshot.lines {
        let scores = snapshot.calls.iter().filter(|call| call.line == line.name);
        let worst =
            scores.filter_map(|call| call.quality.as_ref().and_then(|it| it.mos)).min_by(f64::total_cmp);
        if let Some(worst) = worst {
            page.sample(&[("line", &line.name)], worst);
        }
    }
    page.family("tipring_dropped_total", "counter", "Datagrams and requests refused without an answer.");
    for (reason, count) in &snapshot.dropped {
        page.sample(&[("reason", reason)], *count as f64);
    }
}

/// A family of numbers of upstreams: its name, kind and explanation, and the number of one.
type Numbered = (&'static str, &'static str, &'static str, fn(&View) -> u64);

fn upstreams(page: &mut Page, views: &[View]) {
    page.family("tipring_upstream_up", "gauge", "0 while an upstream is retried, paused or stopped.");
    for view in views {
        let up = if matches!(view.state, "idle" | "delivering") { 1.0 } else { 0.0 };
        page.sample(&[("upstream", &view.name), ("state", view.state)], up);
    }
    let numbers: [Numbered; 6] = [
        ("tipring_upstream_waiting", "gauge", "Events that wait for an upstream, at most.", |it| it.waiting),
        ("tipring_upstream_delivered_total", "counter", "Events that an upstream took.", |it| it.delivered),
        ("tipring_upstream_failed_total", "counter", "Attempts that did not succeed.", |it| it.failed),
        ("tipring_upstream_set_aside_total", "counter", "Events that an upstream never took.", |it| {
            it.set_aside
        }),
        ("tipring_upstream_expired_total", "counter", "Events that were too old to be of use.", |it| {
            it.expired
        }),
        (
            "tipring_upstream_missing_total",
            "counter",
            "Dropped events of which an upstream was not told.",
            |it| it.missing,
        ),
    ];
    for (family, kind, help, number) in numbers {
        page.family(family, kind, help);
        for view in views {
            page.sample(&[("upstream", &view.name)], number(view) as f64);
        }
    }
}

/// What the system says of this process; absent where it says nothing.
fn process(page: &mut Page) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    if let Some(kilobytes) = resident.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok()) {
        page.family("process_resident_memory_bytes", "gauge", "Memory in use.");
        page.sample(&[], kilobytes as f64 * 1024.0);
    }
    if let Ok(used) = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID.now() {
        page.family("process_cpu_seconds_total", "counter", "Time of the processor used.");
        page.sample(&[], std::time::Duration::from(used).as_secs_f64());
    }
}

#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.family);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
