"""Words that every layer shares: errors, options, facts about a clip. Standard library only."""
