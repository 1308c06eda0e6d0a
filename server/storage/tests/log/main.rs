//! The log's promises, in scenarios: see RELIABILITY in the project's documents for the names T02 to T06.

mod crash;
mod partition;
mod vocabulary;
