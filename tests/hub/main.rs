//! `loam_convert::hub` against a hub on loopback that misbehaves in every way of these cases:
//!
//! | case | what | tests |
//! |---|---|---|
//! | 53 | short body, reset at byte k | `resume::broken_connections_go_on_where_they_ended` |
//! | 54 | 200 to a Range request | `resume::a_server_that_ignores_ranges_starts_afresh` |
//! | 55 | complete partial file, 416; spurious 416 | `resume::a_complete_unfinished_file_is_checked_and_put_in_place`, `resume::a_spurious_416_is_no_end` |
//! | 56 | right size, wrong bytes | `content::wrong_bytes_are_put_aside_and_fetched_once_more` |
//! | 57 | entity tag or commit changes | `content::what_changes_on_the_server_is_told`, `resume::parts_of_other_bytes_are_not_continued` |
//! | 58 | redirections | `redirects` |
//! | 59 | statuses, login pages | `content::statuses_have_meanings`, `content::passing_troubles_pass`, `content::web_pages_are_no_files` |
//! | 60 | encodings, lengths, slowness, no host, TLS, proxies | `content::lying_lengths_and_encodings_are_refused`, `content::slow_and_silent_servers_time_out`, `content::no_connection_is_told` and the command line's `pull` |
//! | 61 | full disk, read-only folder | `loam_convert::hub::folder`, `content::folders_that_cannot_be_written` and the command line's `pull` |
//! | 62 | two at once, kill -9 | `resume::a_killed_pull_goes_on`, `resume::two_pulls_into_one_folder` |
//! | 63 | names | `content::names_never_leave_the_folder`, `loam_convert::hub::names` |

mod content;
mod redirects;
mod repository;
mod resume;
mod server;
