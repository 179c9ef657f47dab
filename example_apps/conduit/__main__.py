from conduit.hosts.cli import main

main()
