from nvc_cli.main import main

main()
