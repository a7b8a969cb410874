//! `strftime_now`: dates as C's `strftime` writes them.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The date fields of C's `strftime`, in UTC. Others stay as they are written.
pub(super) fn strftime(format: &str, seconds: u64) -> String {
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[(month as usize - 1) % 12];
    let day_name = DAYS[(days % 7) as usize];
    let weekday = (days + 4) % 7;
    let of_year = days - first_day(year) + 1;
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let (iso_year, iso_week) = iso(days, year);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut field = chars.next();
        // `%-d`: without zeros or spaces before.
        let bare = field == Some('-');
        if bare {
            field = chars.next();
        }
        let start = out.len();
        match field {
            Some('j') => out += &format!("{of_year:03}"),
            Some('I') => out += &format!("{half:02}"),
            Some('l') => out += &format!("{half:2}"),
            Some('k') => out += &format!("{hour:2}"),
            Some('p') => out += if hour < 12 { "AM" } else { "PM" },
            Some('w') => out += &weekday.to_string(),
            Some('u') => out += &(if weekday == 0 { 7 } else { weekday }).to_string(),
            Some('U') => out += &format!("{:02}", (of_year + 6 - weekday) / 7),
            Some('W') => out += &format!("{:02}", (of_year + 6 - (weekday + 6) % 7) / 7),
            Some('V') => out += &format!("{iso_week:02}"),
            Some('G') => out += &iso_year.to_string(),
            Some('C') => out += &format!("{:02}", year / 100),
            Some('h') => out += &month_name[..3],
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('s') => out += &seconds.to_string(),
            Some('f') => out += "000000",
            Some('c') => out += &strftime("%a %b %e %H:%M:%S %Y", seconds),
            Some('D' | 'x') => out += &strftime("%m/%d/%y", seconds),
            Some('R') => out += &strftime("%H:%M", seconds),
            Some('X') => out += &strftime("%H:%M:%S", seconds),
            Some('Y') => out += &year.to_string(),
            Some('y') => out += &format!("{:02}", year % 100),
            Some('m') => out += &format!("{month:02}"),
            Some('d') => out += &format!("{day:02}"),
            Some('e') => out += &format!("{day:2}"),
            Some('B') => out += month_name,
            Some('b') => out += &month_name[..3],
            Some('A') => out += day_name,
            Some('a') => out += &day_name[..3],
            Some('H') => out += &format!("{hour:02}"),
            Some('M') => out += &format!("{minute:02}"),
            Some('S') => out += &format!("{second:02}"),
            Some('F') => out += &format!("{year}-{month:02}-{day:02}"),
            Some('T') => out += &format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => out.push('%'),
            Some(other) => {
                out += if bare { "%-" } else { "%" };
                out.push(other);
            }
            None => out += if bare { "%-" } else { "%" },
        }
        if bare && field.is_some_and(|field| "djHIklmMSUVWy".contains(field)) {
            let number = out.split_off(start);
            let number = number.trim_start_matches(['0', ' ']);
            out += if number.is_empty() { "0" } else { number };
        }
    }
    out
}

/// The day count of the first day of a year from 1970 on.
fn first_day(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

/// Year and number of the week that a day is in, as ISO 8601 counts them: a week is in the year of its Thursday.
fn iso(days: u64, year: u64) -> (u64, u64) {
    let thursday = days + 3 - (days + 3) % 7;
    let year = match year {
        year if thursday >= first_day(year + 1) => year + 1,
        year if thursday < first_day(year) && year > 1970 => year - 1,
        year => year,
    };
    (year, (thursday - first_day(year)) / 7 + 1)
}

/// Year, month and day of a day count from 1970-01-01 in the Gregorian calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // 146,097 days are exactly 400 years: the loops below stay short for any clock.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(strftime("%d %b %Y, %A %H:%M:%S", 0), "01 Jan 1970, Thursday 00:00:00");
        assert_eq!(strftime("%F %T", 951_782_399), "2000-02-28 23:59:59");
        assert_eq!(strftime("%F %a", 951_782_400), "2000-02-29 Tue");
        assert_eq!(strftime("%B %e, %y %% %Q %", 1_795_132_800), "November 20, 26 % %Q %");
        assert_eq!(strftime("%Y", 253_402_300_800), "10000");
    }
}
