//! What a check found, and how it is told.

use serde::Serialize;

use crate::cli::show::harmless;

/// How it is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// As it should be.
    Ok,
    /// It works, and may not for long, or not as safely as it could.
    Warning,
    /// Wrong.
    Problem,
    /// It could not be looked at.
    Skipped,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    message: String,
    /// What to do.
    advice: Option<String>,
}

/// All that was looked at, in order.
#[derive(Default)]
pub(super) struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    pub fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Status::Ok, message.into(), None);
    }

    pub fn skipped(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Status::Skipped, message.into(), None);
    }

    pub fn warning(&mut self, check: &'static str, message: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Status::Warning, message.into(), Some(advice.into()));
    }

    pub fn problem(&mut self, check: &'static str, message: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Status::Problem, message.into(), Some(advice.into()));
    }

    fn add(&mut self, check: &'static str, status: Status, message: String, advice: Option<String>) {
        let one_line = |text: String| harmless(&text).into_owned();
        let finding = Finding { check, status, message: one_line(message), advice: advice.map(one_line) };
        self.findings.push(finding);
    }

    /// How many things are wrong.
    pub fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.status == Status::Problem).count()
    }

    /// A line for each, and one below it for what to do.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { check, status, message, advice } in &self.findings {
            let status = match status {
                Status::Ok => "ok",
                Status::Warning => "warning",
                Status::Problem => "PROBLEM",
                Status::Skipped => "skipped",
            };
            text += &format!("{status:7}  {check:13}  {message}\n");
            if let Some(advice) = advice {
                text += &format!("{:24}→ {advice}\n", "");
            }
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        let json = serde_json::json!({"ok": self.problems() == 0, "findings": self.findings});
        format!("{json:#}\n")
    }
}
