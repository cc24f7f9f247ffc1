//! Printing as Go's package fmt does it.

mod float;
mod integer;
mod printer;
mod quote;
mod verbs;

use crate::budget::{Budget, Buffer};
use crate::error::ErrorKind;
use crate::value::Value;
use printer::Printer;

type Fallible = Result<(), ErrorKind>;

/// Go `fmt.Sprint`: a blank between two operands if neither is a string.
pub(crate) fn print(out: &mut Buffer, values: &[Value], budget: &mut Budget) -> Fallible {
    let mut printer = Printer::new(out, budget);
    let mut after_string = true;
    for value in values {
        let is_string = matches!(value, Value::String(_));
        if !is_string && !after_string {
            printer.write(b" ")?;
        }
        printer.value(value, 'v')?;
        after_string = is_string;
    }
    Ok(())
}

/// As [`print()`], with no value as `<no value>`, which is then a string.
pub(crate) fn print_for_escape(out: &mut Buffer, values: &[Value], budget: &mut Budget) -> Fallible {
    let values: Vec<Value> = values
        .iter()
        .map(|value| match value {
            Value::Nil => Value::string_from(NO_VALUE.to_vec()),
            other => other.clone(),
        })
        .collect();
    print(out, &values, budget)
}

/// Go `fmt.Sprintln`.
pub(crate) fn println(out: &mut Buffer, values: &[Value], budget: &mut Budget) -> Fallible {
    let mut printer = Printer::new(out, budget);
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            printer.write(b" ")?;
        }
        printer.value(value, 'v')?;
    }
    printer.write(b"\n")
}

/// Go `fmt.Sprintf`.
pub(crate) fn printf(out: &mut Buffer, format: &[u8], values: &[Value], budget: &mut Budget) -> Fallible {
    Printer::new(out, budget).format(format, values)
}

const NO_VALUE: &[u8] = b"<no value>";

/// Prints the value of an action.
pub(crate) fn print_action(out: &mut Buffer, value: &Value, budget: &mut Budget) -> Fallible {
    let mut printer = Printer::new(out, budget);
    match value {
        Value::Nil => printer.write(NO_VALUE),
        other => printer.value(other, 'v'),
    }
}
