"""Models judged side by side: opened, asked, compared, on one page."""
