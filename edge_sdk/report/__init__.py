"""The page kit: one self-contained HTML page out of tables and plots."""
