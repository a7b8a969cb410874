//! A mean and how far chance may have moved it.

/// A mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Standard error; none of a single value.
    pub error: Option<f64>,
}

impl Mean {
    /// e to the power of this mean: the perplexity of a mean loss.
    pub fn exp(self) -> Mean {
        let value = self.value.exp();
        Mean { value, error: self.error.map(|error| value * error) }
    }
}

/// Sums of values whose mean is wanted: values may come one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// How many values.
    pub count: usize,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Sums {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// Adds all of `other`'s values.
    pub fn join(&mut self, other: &Sums) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The mean of the values, each counted on its own: the error is that of llama-perplexity. NaN without values.
    pub fn mean(&self) -> Mean {
        let count = self.count as f64;
        let value = self.sum / count;
        // Rounding may leave a variance of zero a little under it.
        let variance = (self.squares / count - value * value).max(0.0);
        Mean { value, error: (self.count > 1).then(|| (variance / (count - 1.0)).sqrt()) }
    }
}

impl FromIterator<f64> for Sums {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut sums = Sums::default();
        values.into_iter().for_each(|value| sums.add(value));
        sums
    }
}

/// The mean over all values of groups of them, such as the tokens of examples. The values of a group are not
/// independent, so the groups decide the error; those of a single group are counted on their own.
pub fn grouped(groups: &[Sums]) -> Mean {
    let mut all = Sums::default();
    groups.iter().for_each(|group| all.join(group));
    let mean = all.mean();
    let count = groups.iter().filter(|group| group.count > 0).count() as f64;
    if count < 2.0 {
        return mean;
    }
    let away = |group: &Sums| (group.sum - mean.value * group.count as f64).powi(2);
    let variance = groups.iter().map(away).sum::<f64>() * count / (count - 1.0);
    Mean { error: Some(variance.sqrt() / all.count as f64), ..mean }
}

/// How much the mean of groups changes from `before` to `after`: group by group the same places, so that what they have
/// in common is no error.
pub fn change(before: &[Sums], after: &[Sums]) -> Mean {
    let difference = |(before, after): (&Sums, &Sums)| (after.sum - before.sum, before.count);
    let pairs: Vec<(f64, usize)> = before.iter().zip(after).map(difference).collect();
    let places: usize = pairs.iter().map(|(_, count)| count).sum();
    let value = pairs.iter().map(|(sum, _)| sum).sum::<f64>() / places as f64;
    let count = pairs.len() as f64;
    let variance = pairs.iter().map(|(sum, places)| (sum - value * *places as f64).powi(2)).sum::<f64>();
    let error = (variance * count / (count - 1.0)).sqrt() / places as f64;
    Mean { value, error: (pairs.len() > 1).then_some(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, wanted: f64) {
        assert!(found.is_some_and(|found| (found - wanted).abs() < 1e-12), "{found:?}, not {wanted}");
    }

    #[test]
    fn values_have_the_error_of_their_mean() {
        let sums: Sums = [1.0, 2.0, 3.0, 4.0].into_iter().collect();
        assert_eq!(sums.mean().value, 2.5);
        // The sample's standard deviation by the root of the count.
        near(sums.mean().error, (5.0f64 / 3.0).sqrt() / 2.0);
        near(sums.mean().exp().error, 2.5f64.exp() * (5.0f64 / 3.0).sqrt() / 2.0);
        assert_eq!([7.0].into_iter().collect::<Sums>().mean(), Mean { value: 7.0, error: None });
    }

    #[test]
    fn groups_of_equal_values_count_as_one_value_each() {
        let groups: Vec<Sums> = [1.0, 2.0, 3.0, 4.0].map(|value| [value; 5].into_iter().collect()).into();
        let alone: Sums = [1.0, 2.0, 3.0, 4.0].into_iter().collect();
        assert_eq!(grouped(&groups).value, 2.5);
        near(grouped(&groups).error, alone.mean().error.expect("an error"));
        let one: Sums = [1.0, 3.0].into_iter().collect();
        assert_eq!(grouped(&[one]), one.mean());
    }

    #[test]
    fn what_both_have_in_common_is_no_error_of_a_change() {
        let before: Vec<Sums> = [1.0, 5.0, 9.0].map(|value| [value; 2].into_iter().collect()).into();
        let after: Vec<Sums> = [0.5, 4.5, 8.5].map(|value| [value; 2].into_iter().collect()).into();
        assert_eq!(change(&before, &after), Mean { value: -0.5, error: Some(0.0) });
    }
}
