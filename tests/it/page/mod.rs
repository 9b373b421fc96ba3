//! The page: its endpoints as programs meet them, and itself as people do, in a real browser.

mod endpoints;
mod generated;
mod server;
