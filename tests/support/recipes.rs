//! What documents tell operators to paste, so that tests can paste the same.

use super::test_dir::root;

/// The only fenced block of a document that has `text` in it, without the indentation that all its lines share.
pub fn block(document: &str, text: &str) -> String {
    let whole = std::fs::read_to_string(root().join(document)).expect("a document");
    let fenced = whole.split("```").skip(1).step_by(2);
    let found: Vec<&str> = fenced.filter(|block| block.contains(text)).collect();
    let [block] = found[..] else { panic!("{} blocks of {document} have \"{text}\"", found.len()) };
    let lines: Vec<&str> = block.lines().skip(1).collect();
    let filled = lines.iter().filter(|line| !line.trim().is_empty());
    let shared = filled.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().map(|line| format!("{}\n", line.get(shared..).unwrap_or(""))).collect()
}

/// A block where its lines begin after so many spaces.
pub fn indented(block: &str, spaces: usize) -> String {
    let indent = " ".repeat(spaces);
    block.lines().filter(|line| !line.is_empty()).map(|line| format!("{indent}{line}\n")).collect()
}
