//! Programs at a terminal, bare and under `run -q`: the same bytes or screens, exit code, modes and files.
//!
//! Each test says how it compares: `exact` where the program prints the same bytes in each run, `screens` where the
//! bytes depend on how the typed ones are grouped into reads, `lines` where the output has times or a progress bar.

mod build_tools;
mod full_screen;
mod keys;
mod meant_differences;
mod modes;
mod repls;
mod shells;
mod signals;
mod streams;
