"""The Autobahn|Testsuite fuzzing client against an echo behind the production protocol options."""
