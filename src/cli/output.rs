//! What goes to stdout.

use std::io::{ErrorKind, Write as _};

use super::failure::Failure;

/// Write `text`. A reader that has gone away, like `head`, has seen enough.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(error, "stdout", "look at where the output is sent"))
        }
        _ => Ok(()),
    }
}
