//! Sockets and what speaks on them: TLS, connection tasks, limits, and the table from inner errors to wire codes.

pub mod errors;
pub mod limits;
