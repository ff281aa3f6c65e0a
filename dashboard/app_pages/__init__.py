"""A folder a page. A page imports its own folder, components, services and the core, never another page."""
