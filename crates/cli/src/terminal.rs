//! The size of the terminal.

/// Rows and columns of the terminal that the descriptor is; 24 and 80 if it does not say.
pub fn size(descriptor: libc::c_int) -> (usize, usize) {
    // SAFETY: a zeroed `winsize` is a valid one.
    let mut window: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ fills in the `winsize` that the pointer names.
    let told = unsafe { libc::ioctl(descriptor, libc::TIOCGWINSZ, &raw mut window) } == 0;
    if told && window.ws_col > 0 && window.ws_row > 0 { (window.ws_row.into(), window.ws_col.into()) } else { (24, 80) }
}
