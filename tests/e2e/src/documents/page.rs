//! Reading the blocks of a page.

/// What a page makes its reader do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Command { line: usize, command: String, output: String },
    File { name: String, content: String },
}

#[derive(Debug)]
pub(super) struct Page {
    pub(super) path: String,
    pub(super) steps: Vec<Step>,
}

impl Page {
    /// Reads the blocks of a page; the error says where the page is at fault.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, String> {
        let mut page = Self { path: path.to_owned(), steps: Vec::new() };
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        while let Some((start, line)) = lines.next() {
            let at = |number: usize, what: &str| format!("{path}:{number}: {what}");
            let Some(info) = line.strip_prefix("```") else {
                if line.trim_start().starts_with("```") || line.starts_with("~~~") {
                    return Err(at(start, "expected ``` at the beginning of a line"));
                }
                continue;
            };
            let block: Vec<_> = lines.by_ref().take_while(|(_, line)| *line != "```").collect();
            // The end of the block is taken; without one, nothing is left either.
            if start + block.len() + 1 > text.lines().count() {
                return Err(at(start, "expected an end of the block"));
            }
            page.block(info.trim(), &block).map_err(|what| at(start, &what))?;
        }
        Ok(page)
    }

    fn block(&mut self, info: &str, lines: &[(usize, &str)]) -> Result<(), String> {
        if info == "text" {
            return Ok(());
        }
        if info == "console" {
            return self.console(lines);
        }
        if let Some(reason) = info.strip_prefix("console ignore:") {
            return if reason.trim().is_empty() { Err("expected a reason after `ignore:`".to_owned()) } else { Ok(()) };
        }
        match info.split_once(" file: ") {
            Some((language, name)) if is_word(language) && is_file_name(name) => {
                let content = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
                self.steps.push(Step::File { name: name.to_owned(), content });
                Ok(())
            }
            _ => Err(format!("unknown kind of block {info:?}")),
        }
    }

    fn console(&mut self, lines: &[(usize, &str)]) -> Result<(), String> {
        let mut lines = lines.iter().peekable();
        if !lines.peek().is_some_and(|(_, line)| line.starts_with("$ ")) {
            return Err("expected `$ ` and a command at first".to_owned());
        }
        while let Some((line, first)) = lines.next() {
            let mut command = first.strip_prefix("$ ").unwrap_or_default().to_owned();
            while command.ends_with('\\') {
                let (_, more) = lines.next().ok_or("expected a line after the backslash")?;
                command.push('\n');
                command.push_str(more);
            }
            let mut output = String::new();
            while let Some((_, shown)) = lines.next_if(|(_, line)| !line.starts_with("$ ")) {
                output.push_str(shown);
                output.push('\n');
            }
            self.steps.push(Step::Command { line: *line, command, output });
        }
        Ok(())
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A file of the working directory or below: nothing else is written.
fn is_file_name(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    text.split('/').all(is_part) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: usize, command: &str, output: &str) -> Step {
        Step::Command { line, command: command.to_owned(), output: output.to_owned() }
    }

    #[test]
    fn commands_files_and_outputs_are_read_in_order() {
        let text = "a\n```console\n$ one\n1\n[..]\n$ two \\\n    more\n```\n```json file: a/b.json\n{}\n```\n\
                    ```console ignore: slow\n$ three\n```\n```text\nx\n```\n```console\n$ four\n```\n";
        assert_eq!(
            Page::parse("p", text).unwrap().steps,
            [
                command(3, "one", "1\n[..]\n"),
                command(6, "two \\\n    more", ""),
                Step::File { name: "a/b.json".into(), content: "{}\n".into() },
                command(19, "four", ""),
            ]
        );
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(Page::parse("p", text).unwrap_err(), expected);
    }

    #[test]
    fn blocks_that_would_be_skipped_unnoticed_are_refused() {
        check_refused("a\n```\n$ x\n```\n", "p:2: unknown kind of block \"\"");
        check_refused("```sh\nx\n```\n", "p:1: unknown kind of block \"sh\"");
        check_refused("```console,ignore\n$ x\n```\n", "p:1: unknown kind of block \"console,ignore\"");
        check_refused("```console ignore:\n$ x\n```\n", "p:1: expected a reason after `ignore:`");
        check_refused("```console\nx\n$ y\n```\n", "p:1: expected `$ ` and a command at first");
        check_refused("```console\n```\n", "p:1: expected `$ ` and a command at first");
        check_refused("```console\n$ x \\\n```\n", "p:1: expected a line after the backslash");
        check_refused("```console\n$ x\n", "p:1: expected an end of the block");
        check_refused("- a\n  ```console\n  $ x\n  ```\n", "p:2: expected ``` at the beginning of a line");
        check_refused("```json file: ../x\n```\n", "p:1: unknown kind of block \"json file: ../x\"");
        check_refused("```json file: /x\n```\n", "p:1: unknown kind of block \"json file: /x\"");
    }
}
