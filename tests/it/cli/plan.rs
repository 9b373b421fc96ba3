//! `plan`: verdicts, formats and exit codes.
