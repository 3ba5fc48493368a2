# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A real browser of the system's, without a window, by the DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
TIMEOUT_S = 120.0
_WITH_PIPES = '''
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
'''


def program():
    """Return the path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Chromium:
    """
    A browser with one page; to be used in a `with` block.

    :param profile: An empty folder for it to work in.
    """

    def __init__(self, profile):
        from_us, self._to = os.pipe()
        self._from, to_us = os.pipe()
        # It reads commands from descriptor 3 and writes to 4.
        pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (from_us, to_us)]
        self._process = subprocess.Popen(
            [sys.executable, '-c', _WITH_PIPES, *map(str, pipes), program(),
             '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
             '--disable-background-networking', '--no-first-run', '--hide-scrollbars',
             f'--user-data-dir={profile}', '--remote-debugging-pipe', 'about:blank'],
            pass_fds=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        for end in (from_us, to_us, *pipes):
            os.close(end)
        self._buffer = b''
        self._number = 0
        self._session = None
        self.events = []
        """What the page has told since it was opened: (method, parameters)."""
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self._session = self.call(
            'Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Network', 'Log', 'Runtime'):
            self.call(f'{domain}.enable')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        try:
            self.call('Browser.close')
            self._process.wait(TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._to)
            os.close(self._from)

    def call(self, method, **parameters):
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._to, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                assert 'error' not in answer, f'{method}: {answer["error"]}'
                return answer['result']

    def open(self, path, width=1280, height=900, dark=False):
        """Show a file in a window of a size, as a phone's where it is narrow."""
        self.call(
            'Emulation.setDeviceMetricsOverride', width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600)
        self.call('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        self.events = []
        failed = self.call('Page.navigate', url=path.resolve().as_uri()).get('errorText')
        assert not failed, failed
        while not any(method == 'Page.loadEventFired' for method, _ in self.events):
            self._receive()

    def evaluate(self, expression):
        """Return the value of a JavaScript expression in the page."""
        result = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def screenshot(self):
        """Return the whole page as PNG."""
        size = self.call('Page.getLayoutMetrics')['cssContentSize']
        return base64.b64decode(self.call(
            'Page.captureScreenshot', captureBeyondViewport=True,
            clip={**size, 'x': 0, 'y': 0, 'scale': 1})['data'])

    def pdf(self):
        """Return the page as printed, on A4."""
        return base64.b64decode(self.call(
            'Page.printToPDF', preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69)['data'])

    @property
    def requests(self):
        """Return the addresses that the page has asked for, but for data within it."""
        return [
            parameters['request']['url'] for method, parameters in self.events
            if method == 'Network.requestWillBeSent'
            and not parameters['request']['url'].startswith('data:')]

    @property
    def complaints(self):
        """Return what the console shows: errors, warnings and messages."""
        return [
            parameters for method, parameters in self.events
            if method in (
                'Log.entryAdded', 'Runtime.consoleAPICalled', 'Runtime.exceptionThrown')]

    def _receive(self):
        deadline = time.monotonic() + TIMEOUT_S
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], deadline - time.monotonic())
            assert ready, f'no answer of the browser in {TIMEOUT_S} s'
            chunk = os.read(self._from, 1 << 20)
            assert chunk, 'the browser has ended'
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b'\0', 1)
        message = json.loads(line)
        if 'method' in message:
            self.events.append((message['method'], message.get('params', {})))
        return message
