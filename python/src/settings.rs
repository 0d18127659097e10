//! The core's settings, from what Python says, the environment and the command line.

use std::collections::HashMap;
use std::path::PathBuf;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use shardcast::Config;

/// The variable that names a file with settings.
const FILE_VARIABLE: &str = "SHARDCAST_CONFIG";

/// Reads a configuration: a file, then variables, then arguments, each of which wins over what is before it.
pub(crate) fn config(variables: HashMap<String, String>, arguments: Vec<String>) -> PyResult<Config> {
    let file = variables.get(FILE_VARIABLE).map(PathBuf::from);
    let config = Config::load_with_args(file.as_deref(), variables.into_iter(), arguments.into_iter());
    config.map_err(|error| PyOSError::new_err(error.to_string()))
}

/// Whether a setting of the command line is followed by its value; one that is true or false stands alone. One that is none is an
/// error that names the nearest.
#[pyfunction]
pub(crate) fn setting_needs_value(name: &str) -> PyResult<bool> {
    let alone = [name.to_owned(), "--help".to_owned()];
    let Err(error) = Config::load_with_args(None, std::iter::empty(), alone.into_iter()) else {
        return Ok(false);
    };
    match error.to_string() {
        help if help == Config::help() => Ok(false),
        text if text.contains("needs a value") => Ok(true),
        text => Err(PyOSError::new_err(text)),
    }
}

/// All settings, each with a sentence.
#[pyfunction]
pub(crate) fn settings_help() -> String {
    Config::help()
}
