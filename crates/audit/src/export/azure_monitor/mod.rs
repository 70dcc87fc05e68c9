//! Azure Monitor (Log Analytics, Sentinel), over its Logs Ingestion API
//! (<https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview>): at most 1 MB a call, values over 64 KB
//! are cut unseen, columns that the data collection rule does not declare are dropped unseen. The older HTTP Data
//! Collector API (workspace key) ended in September 2026 and is not here.

mod columns;
mod config;
mod encode;
mod send;
#[cfg(test)]
mod send_tests;
#[cfg(test)]
mod tests;
mod token;

pub use columns::{COLUMNS, Column, ColumnType, Source};
pub use config::{AzureCloud, AzureCompression, AzureMonitor, AzureMonitorName, RawAzureMonitor};
pub use send::{AzureMonitorDestination, RowEncoder};
