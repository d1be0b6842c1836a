"""What signspool is compared with: each written as a competent stranger would write it."""
