//! The results: what each measurement has to show and whether it does, and tables of Markdown.

use std::fmt::Write;
use std::process::Command;

use crate::support::test_dir::root;

/// Everything that was measured in a run.
pub struct Report {
    head: String,
    sections: Vec<Section>,
}

/// What one measurement gave.
pub struct Section {
    pub title: &'static str,
    /// What was done, in a few sentences.
    pub text: String,
    pub goals: Vec<Goal>,
    pub tables: Vec<Table>,
}

/// Something that a measurement has to show.
pub struct Goal {
    what: String,
    measured: f64,
    unit: &'static str,
    must: Bound,
    aim: Bound,
}

/// What is allowed.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// A figure that is to be small. Where the aim is what it must be, there is none beyond that.
    pub fn at_most(what: impl Into<String>, measured: f64, unit: &'static str, must: f64, aim: f64) -> Self {
        Self { what: what.into(), measured, unit, must: Bound::AtMost(must), aim: Bound::AtMost(aim) }
    }

    /// A figure that is to be large.
    pub fn at_least(what: impl Into<String>, measured: f64, unit: &'static str, must: f64, aim: f64) -> Self {
        Self { what: what.into(), measured, unit, must: Bound::AtLeast(must), aim: Bound::AtLeast(aim) }
    }

    fn row(&self) -> Vec<String> {
        let aims_higher = self.aim != self.must;
        let verdict = match (self.must.holds(self.measured), self.aim.holds(self.measured)) {
            (true, true) if aims_higher => "aim reached",
            (true, _) => "met",
            (false, _) => "**falls short**",
        };
        let measured = format!("{} {}", figure(self.measured), self.unit);
        let [must, aim] = [self.must, self.aim].map(|bound| format!("{bound} {}", self.unit));
        let aim = if aims_higher { aim } else { String::new() };
        [self.what.clone(), measured, must, aim, verdict.to_owned()]
            .map(|cell| cell.trim_end().to_owned())
            .into()
    }
}

impl Bound {
    fn holds(self, measured: f64) -> bool {
        match self {
            Self::AtMost(bound) => measured <= bound,
            Self::AtLeast(bound) => measured >= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {}", figure(*bound)),
            Self::AtLeast(bound) => write!(f, "at least {}", figure(*bound)),
        }
    }
}

/// A number to about three digits, and more where it is a share of nearly everything.
pub fn figure(number: f64) -> String {
    let digits = match number.abs() {
        99.0..100.0 => 3,
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Rows under a head.
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn of(head: &[&str]) -> Self {
        Self(vec![head.iter().map(ToString::to_string).collect()])
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for (number, cells) in self.0.iter().enumerate() {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(cells.len()));
            }
        }
        text
    }
}

impl Section {
    fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n\n{}\n", self.title, self.text);
        let _ = write!(text, "\n{}", goals(&self.goals).markdown());
        for table in &self.tables {
            let _ = write!(text, "\n{}", table.markdown());
        }
        text
    }
}

fn goals<'g>(goals: impl IntoIterator<Item = &'g Goal>) -> Table {
    let mut table = Table::of(&["", "measured", "must", "aim", ""]);
    for goal in goals {
        table.row(goal.row());
    }
    table
}

impl Report {
    pub fn begin(title: &str, command: &str) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let head = format!(
            "# {title}\n\nWritten by `{command}`: {cores} cores ({}), Linux {}, Envoy 1.40.0, {}, {}, {}. Clients, \
             Envoy, upstream and service are all on this machine and share its cores: throughput and latencies are of all of \
             them together, CPU time is of the process that is named.\n",
            model.map_or("unknown", |(_, name)| name),
            version("uname", "-r"),
            version("rustc", "--version"),
            version("wrk", "-v"),
            version("psql", "--version"),
        );
        Self { head, sections: Vec::new() }
    }

    /// Adds what a measurement gave, and prints it.
    pub fn add(&mut self, section: Section) {
        println!("{}", section.markdown());
        self.sections.push(section);
    }

    /// Keeps the results of a whole run in a file beside this one.
    pub fn write(&self, file: &str) {
        let all = goals(self.sections.iter().flat_map(|section| &section.goals));
        let sections: String = self.sections.iter().map(Section::markdown).collect();
        let text = format!("{}\n{}{sections}", self.head, all.markdown());
        std::fs::write(root().join("benches").join(file), text).expect("the results are written");
    }
}

/// The first line that a program says of its version, without what follows a comma or a bracket.
fn version(program: &str, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output();
    let text = output
        .map_or_else(|_| format!("no {program}"), |it| String::from_utf8_lossy(&it.stdout).into_owned());
    let line = text.lines().next().unwrap_or_default();
    line.split(['(', '[', ',']).next().unwrap_or_default().trim().to_owned()
}

/// Figures of one kind in a few words.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(figures);
        Self { median: percentile(&sorted, 50), lowest: sorted[0], highest: sorted[sorted.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} to {})", figure(self.median), figure(self.lowest), figure(self.highest))
    }
}

/// Figures from the lowest to the highest.
pub fn sorted(figures: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The lowest figure that so many percent do not exceed.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}
