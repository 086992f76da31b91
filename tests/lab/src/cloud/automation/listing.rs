//! Executions and their steps in lists.

use super::{id_of, no_such_execution, store::Execution};
use crate::cloud::{ApiError, Input, Shared, page};
use serde_json::{Value, json};
use std::sync::Arc;

/// Filters of a request: key and values.
fn filters(input: &Input<'_>, keys: &[&str], unknown: &[&str]) -> Result<Vec<(String, Vec<String>)>, ApiError> {
    let one = |value: &Value| {
        let filter = Input::new(value, &["Key", "Values"])?;
        let key = filter.required("Key")?;
        filter.one_of("Key", &[keys, unknown].concat())?;
        if unknown.contains(&key) {
            return Err(ApiError::unsupported(format_args!("the filter {key}")));
        }
        let values = filter.strings("Values", 10, "")?;
        if values.is_empty() || values.iter().any(|value| !(1..=150).contains(&value.len())) {
            return Err(ApiError::new(
                "InvalidFilterValue",
                format_args!("the filter {key} has no values, or one that is too long"),
            ));
        }
        Ok((key.to_owned(), values.into_iter().map(str::to_owned).collect()))
    };
    input.list("Filters", 10)?.iter().map(one).collect()
}

/// Seconds since the epoch of `2026-11-18T11:06:40Z`.
fn time(text: &str) -> Result<f64, ApiError> {
    let wrong = || ApiError::new("InvalidFilterValue", format_args!("{text} is no time such as 2026-11-18T11:06:40Z"));
    let numbers: Vec<i64> = text
        .trim_end_matches('Z')
        .split(['-', 'T', ':'])
        .map(|part| part.parse().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    let [year, month, day, hour, minute, second] = numbers[..] else { return Err(wrong()) };
    // Days since the epoch, years beginning in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
            - 1
            - 719_468;
    Ok((days * 86_400 + hour * 3_600 + minute * 60 + second) as f64)
}

fn answer(list: &str, shown: Vec<Value>, of: &str, input: &Input<'_>) -> Result<Value, ApiError> {
    let size = input.integer("MaxResults", 1..=50)?.unwrap_or(50);
    let (items, next) = page(&shown, of, input.text("NextToken")?, size.unsigned_abs() as usize)?;
    let mut answer = json!({});
    answer[list] = items.into();
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    Ok(answer)
}

/// DescribeAutomationExecutions: newest first. What was just started is not listed at once.
pub fn executions(shared: &Arc<Shared>, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Filters", "MaxResults", "NextToken"])?;
    let known = [
        "DocumentNamePrefix",
        "ExecutionStatus",
        "ExecutionId",
        "CurrentAction",
        "StartTimeBefore",
        "StartTimeAfter",
        "AutomationType",
        "TagKey",
    ];
    let filters =
        filters(&input, &known, &["ParentExecutionId", "TargetResourceGroup", "AutomationSubtype", "OpsItemId"])?;
    let now_s = shared.clock.now_s();
    let all = shared.automation.lock();
    let mut shown = Vec::new();
    for execution in all.iter().rev().filter(|execution| execution.began_s + shared.options.settle_s <= now_s) {
        let metadata = execution.metadata(shared);
        if fits(execution, &metadata, &filters)? {
            shown.push(metadata);
        }
    }
    answer("AutomationExecutionMetadataList", shown, &format!("executions {filters:?}"), &input)
}

fn fits(execution: &Execution, metadata: &Value, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
    for (key, values) in filters {
        let began = metadata["ExecutionStartTime"].as_f64().unwrap_or_default();
        let one = |value: &String| {
            Ok(match key.as_str() {
                "DocumentNamePrefix" => execution.document.starts_with(value.as_str()),
                "ExecutionStatus" => execution.status == *value,
                "ExecutionId" => execution.id == *value,
                "CurrentAction" => metadata["CurrentAction"] == value.as_str(),
                "StartTimeBefore" => began < time(value)?,
                "StartTimeAfter" => began > time(value)?,
                "AutomationType" => value == "Local",
                _ => execution.tags.contains_key(value),
            })
        };
        let any = values.iter().map(one).collect::<Result<Vec<bool>, ApiError>>()?;
        if !any.contains(&true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// DescribeAutomationStepExecutions
pub fn steps(shared: &Arc<Shared>, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AutomationExecutionId", "Filters", "MaxResults", "NextToken", "ReverseOrder"])?;
    let id = id_of(&input)?;
    let known = [
        "StepExecutionStatus",
        "StepExecutionId",
        "StepName",
        "Action",
        "ParentStepExecutionId",
        "ParentStepIteration",
    ];
    let filters = filters(&input, &known, &["StartTimeBefore", "StartTimeAfter", "ParentStepIteratorValue"])?;
    let steps = shared.automation.change(id, |execution| execution.steps.clone());
    let mut shown: Vec<Value> =
        steps.ok_or_else(|| no_such_execution(id))?.iter().map(|step| step.shown(shared)).collect();
    shown.retain(|step| {
        filters.iter().all(|(key, values)| {
            let found = match key.as_str() {
                "StepExecutionStatus" => &step["StepStatus"],
                "ParentStepExecutionId" => &step["ParentStepDetails"]["StepExecutionId"],
                "ParentStepIteration" => &step["ParentStepDetails"]["Iteration"],
                other => &step[other],
            };
            values.contains(&super::values::plain(found))
        })
    });
    let reverse = input.boolean("ReverseOrder")?;
    if reverse {
        shown.reverse();
    }
    answer("StepExecutions", shown, &format!("steps {id} {reverse} {filters:?}"), &input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("1970-01-01T00:00:00Z"), Ok(0.0));
        assert_eq!(time("2026-11-18T11:06:40Z"), Ok(1_795_000_000.0));
        assert!(time("yesterday").is_err());
    }
}
