//! The flags among an engine's arguments, as the engines' own parsers read them.

/// One flag among the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag<'a> {
    /// Its name, with underscores as dashes.
    pub(crate) name: String,
    /// Its value: after `=`, or the next argument if that is no flag.
    pub(crate) value: Option<&'a str>,
    /// How many arguments it takes up, and where it begins.
    pub(crate) span: usize,
    pub(crate) at: usize,
}

/// The flags among the arguments.
pub(crate) fn flags(arguments: &[String]) -> impl Iterator<Item = Flag<'_>> {
    arguments.iter().enumerate().filter(|(_, argument)| is_flag(argument)).map(|(at, argument)| {
        if let Some((name, value)) = argument.split_once('=') {
            return Flag { name: normal(name), value: Some(value), span: 1, at };
        }
        let value = arguments.get(at + 1).map(String::as_str).filter(|next| !is_flag(next));
        Flag { name: normal(argument), value, span: if value.is_some() { 2 } else { 1 }, at }
    })
}

/// A flag begins with a dash, and is not a negative number.
fn is_flag(argument: &str) -> bool {
    argument
        .strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_ascii_alphabetic()))
}

/// vLLM and SGLang take `--max_model_len` for `--max-model-len`.
fn normal(name: &str) -> String {
    name.replace('_', "-")
}
