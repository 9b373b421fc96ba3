//! Where everything that is printed passes: data to standard output, words about it to standard error.

use std::io::{self, IsTerminal, Write};

use crate::render::table::Style;

/// The two streams, and whether each is coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    colour_data: bool,
    colour_words: bool,
}

impl Printer {
    /// A printer for this process: coloured on a terminal, unless the environment asks for none.
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        Self {
            colour_data: wanted && io::stdout().is_terminal(),
            colour_words: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether data may be coloured.
    pub(crate) const fn colours_data(self) -> bool {
        self.colour_data
    }

    /// Columns that running text is wrapped to: those that `COLUMNS` names, from 40 up.
    // Takes the printer so that nothing asks the environment without one.
    #[expect(clippy::unused_self)]
    pub(crate) fn width(self) -> usize {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
        columns.filter(|columns| *columns > 0).map_or(Style::WIDTH, |columns| columns.max(40))
    }

    /// Prints data. A reader that has gone away has what it wanted: the verdict, and so the exit code, stands.
    // Takes the printer so that nothing prints without one.
    #[expect(clippy::unused_self)]
    pub(crate) fn data(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Prints data that is written as it is made: what is large is never held as a whole.
    // Takes the printer so that nothing prints without one.
    #[expect(clippy::unused_self)]
    pub(crate) fn stream<E: From<io::Error>>(
        self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut out = io::BufWriter::new(Pipe { out: io::stdout().lock(), is_broken: false });
        let result = write(&mut out).and_then(|()| out.flush().map_err(E::from));
        let (pipe, _) = out.into_parts();
        // Whatever became of the error on its way.
        if pipe.is_broken { Ok(()) } else { result }
    }

    /// Says something about the data that the user should know.
    pub(crate) fn note(self, text: &str) {
        self.words("note", "36", text);
    }

    /// Says why there is no data.
    pub(crate) fn error(self, text: &str) {
        self.words("error", "31", text);
    }

    /// Says what would help, after a blank line.
    pub(crate) fn hint(self, text: &str) {
        self.words_after("\n", "hint", "36", text);
    }

    fn words(self, label: &str, colour: &str, text: &str) {
        self.words_after("", label, colour, text);
    }

    fn words_after(self, before: &str, label: &str, colour: &str, text: &str) {
        let label =
            if self.colour_words { format!("\u{1b}[1;{colour}m{label}\u{1b}[0m") } else { label.to_owned() };
        // Nobody can be told that standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{before}{label}: {text}");
    }
}

/// Standard output, and whether its reader has gone away.
struct Pipe<Out> {
    out: Out,
    is_broken: bool,
}

impl<Out: Write> Write for Pipe<Out> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.is_broken |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.is_broken |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}
