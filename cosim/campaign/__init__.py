"""Recipes to tasks to samples on disk; resumable and order-free."""
