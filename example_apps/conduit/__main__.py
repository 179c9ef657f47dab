from example_apps.conduit.hosts.cli import main

main()
