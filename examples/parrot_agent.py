"""An agent of your own: it repeats what the caller said once the caller is done, and 0 ends the call.

Install it next to voiceingest, as any package with this in its pyproject.toml:

    [project.entry-points."voiceingest.agents"]
    parrot = "parrot_agent:Parrot"

and start the daemon with VOICEBOT_AGENT=parrot.
"""

from voiceingest.agents import Agent

# What it remembers of one turn, in seconds.
LONGEST_S = 30


class Parrot(Agent):
    """One is made for each call. Every method is called from the daemon's one thread: do not block."""

    wants_transcripts = True  # Deepgram tells it when the caller is done

    def begin(self, call):
        super().begin(call)
        self.heard = bytearray()

    def audio(self, pcm):
        if len(self.heard) < LONGEST_S * self.call.facts.audio.bytes_per_s:
            self.heard += pcm

    def transcript(self, transcript):
        if transcript.ends_turn:
            self.call.say(bytes(self.heard))
            self.call.mark("said")
            self.heard.clear()

    def dtmf(self, digit):
        if digit == "0":
            self.call.hang_up()
