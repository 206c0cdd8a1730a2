"""Rendering only: names, sizes, times, tables, trees and progress for people; JSON for programs.

Nothing here asks the store for anything, and nothing but stdlib is imported until it is drawn.
"""
