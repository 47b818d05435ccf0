"""What ``twistd`` and ``trial`` find: modules by name, so that nothing is imported until chosen."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

voiceingest = ServiceMaker(
    "voiceingest", "voiceingest.tap", "Take the audio of live calls and put it on a bus.", "voiceingest"
)
voiceingest_reactor = Reactor(
    "voiceingest", "voiceingest.reactor", "asyncio reactor with a monotonic clock, for voiceingest"
)
