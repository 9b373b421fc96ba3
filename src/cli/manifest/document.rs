//! A text as YAML documents, each with its line, so that one that cannot be read does not take the others with it.

use serde_json::Value;

/// One document of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Its number in the text, from 1.
    pub(super) number: usize,
    /// The line of the text on which its first content stands, from 1.
    pub(super) line: u64,
    /// Line breaks before it.
    before: usize,
    text: &'a str,
}

/// Splits a text at the lines that begin with `---`: at the first column that is always the end of a document.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut starts = vec![(0, 1)];
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = u64::try_from(index + 1).unwrap_or(u64::MAX);
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker && offset > 0 {
            starts.push((offset, number));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(offset, _)| *offset).chain([text.len()]);
    let mut documents = Vec::new();
    for ((start, first_line), end) in starts.iter().copied().zip(ends) {
        let Some(part) = text.get(start..end) else { continue };
        let Some(before) = part.lines().position(is_content) else { continue };
        let line = first_line.saturating_add(u64::try_from(before).unwrap_or(0));
        let breaks = usize::try_from(first_line.saturating_sub(1)).unwrap_or(0);
        documents.push(Document { number: documents.len() + 1, line, before: breaks, text: part });
    }
    documents
}

/// Whether a line is more than a comment or a marker.
fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#') && !matches!(line, "---" | "...") && !line.starts_with('%')
}

impl Document<'_> {
    /// The document as JSON, which is what an API server gets.
    pub(super) fn parse(&self) -> Result<Value, String> {
        if self.text.trim_start().starts_with('{')
            && let Ok(value) = serde_json::from_str(self.text)
        {
            return Ok(value);
        }
        // Through YAML's own value, which refuses a key that stands twice.
        let value: serde_yaml::Value =
            serde_yaml::from_str(self.text).map_err(|error| self.unreadable(&error))?;
        serde_json::to_value(value).map_err(|error| format!("is not an object: {error}"))
    }

    /// Whether these characters stand anywhere in it.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// What is wrong, with the line in the file rather than in the document.
    fn unreadable(&self, error: &serde_yaml::Error) -> String {
        let padded = "\n".repeat(self.before) + self.text;
        let in_file = serde_yaml::from_str::<serde_yaml::Value>(&padded).err();
        format!("cannot be read: {}", in_file.as_ref().unwrap_or(error))
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn documents_know_their_lines() {
        let text = "# comment\n---\na: 1\n---\n\n# nothing\n---\nb: |\n  ---\n  c\n--- \nd: 1\n";
        let found: Vec<(usize, u64)> =
            split(text).iter().map(|document| (document.number, document.line)).collect();
        assert_eq!(found, [(1, 3), (2, 8), (3, 12)]);
        assert_eq!(split("").len(), 0);
        assert_eq!(split("---\n---\n").len(), 0);
        assert_eq!(split("\u{feff}a: 1").len(), 1);
    }
}
