//! The page: its endpoints as programs meet them, and itself as people do, in a real browser.

mod accessible;
mod browser;
mod endpoints;
mod flows;
mod generated;
mod pictures;
mod server;
