"""What pages need and nobody sees: uploads, tasks, caches, links. They draw no widget; `st.cache_*` is allowed."""
