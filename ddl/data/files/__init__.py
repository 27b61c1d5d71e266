"""One module an item that stays files, found by its name. What a module offers is `ddl.data.recipe.FileRecipe`."""
