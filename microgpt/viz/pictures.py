"""matplotlib figures: returned, not shown. (extra: tutorials)"""
